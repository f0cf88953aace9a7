"""One fault being tried: its folder, its random numbers, what a calm run leaves, and what is to be found after it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.chaos import proof
from orchestration.chaos.lab import Broken, Lab, lab
from orchestration.chaos.proof import Left

INTERVAL = 10  # steps from one checkpoint of the lab's pipeline to the next
_RESUMED = re.compile(r"continues from checkpoint (\d+)")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What happened after a fault; None where something was not measured."""

    text: str
    repeated: int | None = None  # steps that were computed twice
    lost: int | None = None  # values that the histories of a calm run have and these not, or twice, or the reverse


@dataclass(frozen=True, slots=True)
class Trial:
    """Where a fault is tried; `calm` returns what a calm run with so many workers leaves."""

    folder: Path
    calm: Callable[[int], Left]
    random: random.Random

    def lab(self, **how: Any) -> AbstractContextManager[Lab]:
        """Return a lab in the folder of this trial."""
        return lab(self.folder, **how)

    def same(
        self,
        own: Lab,
        text: str,
        *,
        at: int | None = None,
        most: int = INTERVAL,
        workers: int = 1,
        uri: str | None = None,
    ) -> Evidence:
        """Return the evidence that a lab left what a calm one leaves, struck after step `at`.

        Raises: Broken where it did not, or more than `most` steps were computed twice.
        """
        proof.require_same(self.calm(workers), proof.read(own, uri=uri))
        if at is None:
            return Evidence(text, lost=0)
        resumed = [int(step) for step in _RESUMED.findall(own.log())]
        if not resumed:
            raise Broken(f"it was struck after step {at} and began anew", repeated=at, lost=0)
        repeated = max(0, at - resumed[0])
        if repeated > most:
            fact = f"{repeated} steps were computed twice, and not {most} at most"
            raise Broken(fact, repeated=repeated, lost=0)
        return Evidence(f"{text}; struck after step {at}, went on from {resumed[0]}", repeated, lost=0)


Strike = Callable[[Trial], Evidence]
"""Tries one fault. Raises: Broken where a promise was."""
