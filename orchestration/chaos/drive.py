"""Tries faults one after the other, each in a folder of its own, and tells what came of each."""

from __future__ import annotations

import datetime
import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestration import provenance
from orchestration.chaos import proof
from orchestration.chaos.faults import FAULTS, Fault
from orchestration.chaos.lab import Broken, lab
from orchestration.chaos.proof import Left
from orchestration.chaos.trial import Evidence, Trial
from orchestration.errors import LeoclrOpsError, NotFound


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one fault."""

    fault: Fault
    kept: bool  # all that was promised
    evidence: Evidence
    seconds: float


Show = Callable[[str], None]


def choose(names: Iterable[str]) -> tuple[Fault, ...]:
    """Return the faults of these names, all where none is named. Raises: NotFound."""
    wanted = set(names)
    if unknown := wanted - {fault.name for fault in FAULTS}:
        known = ", ".join(fault.name for fault in FAULTS)
        raise NotFound(f"no fault is called `{min(unknown)}`", place="--only", hint=f"one of {known}")
    return tuple(fault for fault in FAULTS if not wanted or fault.name in wanted)


def run(faults: Iterable[Fault], folder: Path, *, seed: int, show: Show) -> Iterator[Outcome]:
    """Try faults below `folder`, and yield what came of each; what kept its promise leaves nothing there."""
    calm = calm_in(folder / "calm", show)
    for fault in faults:
        show(f"{fault.name}: {fault.title}")
        chance = random.Random(f"{seed} {fault.name}")  # noqa: S311  # the same seed strikes the same
        outcome = _try(fault, Trial(folder / fault.name, calm, chance))
        if outcome.kept:
            shutil.rmtree(folder / fault.name, ignore_errors=True)
        yield outcome


def calm_in(folder: Path, show: Show) -> Callable[[int], Left]:
    """Return what a calm run with so many workers leaves; each is run once, when it is first asked for."""

    @functools.cache
    def calm(workers: int) -> Left:
        show(f"a calm run with {workers} worker{'s' if workers > 1 else ''}, to compare with")
        with lab(folder / str(workers), workers=workers) as own:
            own.submit()
            return proof.read(own)

    return calm


def remove(folder: Path) -> None:
    """Remove a folder that was worked in."""
    shutil.rmtree(folder, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Remove a folder that was worked in, unless it holds what tells of a broken promise."""
    remove(folder / "calm")
    if not any(folder.iterdir()):
        folder.rmdir()


def here() -> str:
    """Return today and this machine, in words."""
    versions = provenance.versions()
    cores = len(os.sched_getaffinity(0))
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {cores} cores, Ray {versions['ray']}, MLflow {versions['mlflow']}, torch {versions['torch']}"


def _try(fault: Fault, trial: Trial) -> Outcome:
    began = time.monotonic()
    try:
        kept, evidence = True, fault.strike(trial)
    except (Broken, LeoclrOpsError) as error:
        repeated, lost = (error.repeated, error.lost) if isinstance(error, Broken) else (None, None)
        kept, evidence = False, Evidence(f"BROKEN: {error}; see {trial.folder}", repeated, lost)
    return Outcome(fault, kept, evidence, time.monotonic() - began)
