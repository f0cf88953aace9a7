"""A stage that does nothing, for the benchmark of what a stage costs: no data, no network, no epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import jobs
from jobs import loop
from jobs.contract import Job, Metric
from orchestration import backend

KIND = "noop"
METRICS = (Metric("top1", "%", "higher", "nothing"),)
NEEDS: tuple[str, ...] = ()
_train = backend.train


class Nothing:
    """The least that the loop runs."""

    epochs = 0

    def steps(self, epoch: int) -> int:
        """Return none."""
        return 0

    def start_epoch(self, epoch: int, step: int) -> None:
        """Do nothing."""

    def train_step(self) -> Mapping[str, float]:
        """Do nothing."""
        return {"loss": 0.0, "images": 0}

    def end_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Do nothing."""

    def finish(self) -> Mapping[str, float]:
        """Return the number that METRICS promises."""
        return {"top1": 0.0}


def train_loop(config: Mapping[str, Any]) -> None:
    """Run nothing, with all that the loop does around it: log, lock, journal, sealed result, report."""
    loop.run(config, _build)


def fit(config: dict[str, Any], gpus_per_worker: float) -> None:
    """Do what the backend does with a stage; its workers know this kind."""
    backend.train = train
    backend.fit(config, gpus_per_worker)


def train(config: dict[str, Any]) -> None:
    """Do what the backend does in a worker, in a process that knows this kind."""
    jobs.STAGES[KIND] = __name__
    _train(config)


def _build(job: Job, device: torch.device) -> Nothing:
    return Nothing()
