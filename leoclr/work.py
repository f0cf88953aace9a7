"""Work: something that trains by steps and can be stopped after any step and continued, bit for bit.

Pre-training and every evaluation protocol with training in it is a `Work`; `jobs.loop` is the one loop that runs them
all. A Work knows nothing of Ray, files or trackers. The caller holds the position (epoch, step); the Work holds
everything else that decides the next number, and gives it as `state()`.

Random numbers come from counters (seed, epoch, image), never from a generator that has been running: a continued epoch
draws what the undisturbed one would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

Number = float | int


class Work(Protocol):
    """The contract; `jobs.loop` calls it in this order:

    load(state)?  ( start_epoch(e, s)  train_step() * (steps(e) - s)  end_epoch(e) ) * epochs  finish()
    """

    epochs: int

    def steps(self, epoch: int) -> int:
        """Return the number of optimizer steps of `epoch`."""
        ...

    def start_epoch(self, epoch: int, step: int) -> None:
        """Get ready to run `epoch` from its step `step` (0 unless continued)."""
        ...

    def train_step(self) -> Mapping[str, Tensor | Number]:
        """Take one optimizer step; return numbers to record, as detached scalars still on the device.

        "loss" is always there; "images" is the number of training images that this step consumed, over all workers.
        """
        ...

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        """Finish `epoch`; return numbers to record (a monitor), or nothing."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that decides the next number: nested dicts and lists of tensors, numbers, strings, None."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state()` gave."""
        ...

    def finish(self) -> Mapping[str, Number]:
        """Return the final numbers; the test set is read here, once."""
        ...
