"""Submissions whose stages do nothing: everything of the product but Ray and training. For `benchmarks.load`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.contract import Job
from jobs.inputs import BACKBONE
from jobs.journal import Journal
from leoclr import checkpoint
from orchestration import backend, runner, spec
from orchestration.backend import Backend, Ended
from orchestration.prepare import prepare
from orchestration.schedule import Ask, Size
from orchestration.storage import Home
from orchestration.tracking import Store

STAGES = 3  # of each plan
PIPELINE = """
stages:
  pretrain: {params: {dataset: digits, method: random, epochs: 0, seed: SEED}}
  linear: {needs: [pretrain], params: {dataset: digits, seed: SEED}}
  knn: {needs: [pretrain], params: {dataset: digits, seed: SEED}}
"""


class Idle(Backend):
    """A cluster whose jobs end at once, with a result."""

    there = (Size(2.0, 0.0),)
    _own = True

    def __init__(self) -> None:
        self._given: list[Job] = []

    @property
    def nodes(self) -> tuple[Size, ...]:
        """See `Backend`."""
        return self.there

    def start(self, job: Job, ask: Ask) -> int:
        """See `Backend`."""
        self._given.append(job)
        return len(self._given) - 1

    def ended(self, handles: Sequence[int], *, timeout_s: float) -> dict[int, Ended]:
        """See `Backend`."""
        for handle in handles:
            _finish(self._given[handle])
        return dict.fromkeys(handles, Ended())


def submit(home: Home, uri: str, number: int) -> float:
    """Submit the plan of this number, and return how long it took. Raises: LeoclrOpsError, RuntimeError."""
    backend.connect = _idle
    file = home.path / "pipelines" / f"small-{number}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PIPELINE.replace("SEED", str(number)))
    began = time.monotonic()
    store = Store.open(home, uri)
    loaded = spec.load(str(file))
    outcome = runner.submit(loaded, prepare(loaded, home, store), store, home, show=lambda _: None)
    if outcome.failed or outcome.stopped:
        raise RuntimeError(f"plan {number}: {outcome}")
    return time.monotonic() - began


@contextlib.contextmanager
def _idle() -> Iterator[Idle]:
    yield Idle()


def _finish(job: Job) -> None:
    """Leave what the first worker of a stage leaves."""
    folder = Path(job.folder)
    book = Journal(folder / "journal.jsonl", steps=STAGES)
    for step in range(1, STAGES + 1):
        book.step(step, {"loss": step / 10, "images": 8}, (1, 1, step / STAGES))
    book.close()
    draft = folder / "draft"
    draft.mkdir()
    (draft / BACKBONE).write_text(f"weights of {job.fingerprint}")
    (draft / "metrics.json").write_text(json.dumps({"knn_top1": 50.0, "top1": 60.0}))
    checkpoint.seal(draft, folder / "result", fingerprint=job.fingerprint, ended_ms=time.time_ns() // 1_000_000)
