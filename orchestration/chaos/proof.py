"""What a submission left, and whether two left the same: runs, metric histories, weights, states, results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import torch

from jobs import journal
from orchestration import look
from orchestration.chaos.lab import Broken, Lab
from orchestration.records import StageRun
from orchestration.tracking import Store

MEASURED = ("system/", "images_per_s")  # metrics by the clock: they differ from run to run
CHECKPOINT, WEIGHTS = "checkpoint.pt", "backbone.safetensors"

_BEGUN = re.compile(r"^(\S+ \S+) INFO worker 0: .*(?:continues from checkpoint (\d+)| starts on )", re.MULTILINE)

Points = dict[str, list[tuple[int, float]]]  # (step, value) by metric


@dataclass(frozen=True, slots=True)
class Left:
    """What one submission left, by stage."""

    results: dict[str, dict[str, float]]  # what the table shows
    histories: dict[str, Points]
    weights: dict[str, str]  # sha256
    states: dict[str, str]  # sha256 of all tensors and numbers of the last state
    runs: dict[str, str] = field(compare=False)  # id

    @property
    def points(self) -> int:
        """How many values all histories have."""
        return sum(len(points) for curves in self.histories.values() for points in curves.values())

    def lost(self, found: Left) -> int:
        """Return how many values `found` has not, or has twice, or has besides."""
        missing = 0
        for stage, curves in self.histories.items():
            there = found.histories.get(stage, {})
            for key in curves.keys() | there.keys():
                own, other = curves.get(key, []), there.get(key, [])
                missing += len(set(own) ^ set(other)) + abs(len(other) - len(set(other)))
        return missing


def read(lab: Lab, *, uri: str | None = None, besides: Sequence[str] = ()) -> Left:
    """Return what the submissions of a lab left; runs `besides` are known to be of no use any more.

    Raises: Broken where a run lies, or a stage has more than one.
    """
    store = Store.open(lab.home, uri)
    (last, *earlier) = look.status(store, lab.home)
    if last.state != "done":
        raise Broken(f"the submission is `{last.state}`, and not done")
    if wrong := [each.state for each in earlier if each.state not in ("stopped", "failed", "done")]:
        raise Broken(f"an earlier submission is `{wrong[0]}`")
    runs = store.stage_runs(run.run_id for run in store.past_runs() if run.run_id not in besides)
    by_stage = _only_one(list(runs.values()))
    return Left(
        results={stage: _result(store, run) for stage, run in by_stage.items()},
        histories={stage: _curves(store, run) for stage, run in by_stage.items()},
        weights={stage: store.digests(run.run_id).get(WEIGHTS, "") for stage, run in by_stage.items()},
        states={stage: _state(store, run) for stage, run in by_stage.items()},
        runs={stage: run.run_id for stage, run in by_stage.items()},
    )


def require_same(calm: Left, found: Left) -> None:
    """Raises: Broken where two submissions did not leave the same, bit for bit."""
    if lost := calm.lost(found):
        raise Broken(f"{lost} values of the metric histories differ", lost=lost)
    for what in ("results", "weights", "states"):
        own, other = getattr(calm, what), getattr(found, what)
        if wrong := sorted(stage for stage in own.keys() | other.keys() if own.get(stage) != other.get(stage)):
            raise Broken(f"the {what} of {', '.join(wrong)} differ from those of a calm run", lost=0)


def repeated(lab: Lab) -> int:
    """Return how many recorded steps all stages of a lab computed again, at most, see `computed_again`."""
    folders = sorted(path.parent for path in lab.home.path.glob("stages/*/log.txt"))
    return sum(
        computed_again(
            (folder / "log.txt").read_text(errors="replace"), journal.numbers(folder / "journal.jsonl").lines
        )
        for folder in folders
    )


def computed_again(log: str, lines: Iterable[Mapping[str, Any]]) -> int:
    """Return how many steps of a journal were computed again, at most, by the log of their stage.

    Each attempt begins behind a checkpoint, or at the start, and computes again what had been recorded until then. One
    that was ended before it came so far computed fewer; nobody noted how many.
    """
    steps = [(line["t"], line["s"]) for line in lines if "s" in line and "e" not in line]
    count = 0
    for when, checkpoint in _BEGUN.findall(log):
        began_ms = datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").timestamp() * 1000
        count += max(0, max((step for ms, step in steps if ms < began_ms), default=0) - int(checkpoint or 0))
    return count


def _only_one(runs: list[StageRun]) -> dict[str, StageRun]:
    found: dict[str, StageRun] = {}
    for run in runs:
        if run.stage in found:
            raise Broken(f"the stage {run.stage} has more than one run")
        if run.status != "FINISHED":
            raise Broken(f"the run of {run.stage} is {run.status}")
        found[run.stage] = run
    return dict(sorted(found.items()))


def _result(store: Store, run: StageRun) -> dict[str, float]:
    """Return what a stage ended with, after all its files were found to be what its manifest says."""
    store.check(run.run_id)
    return {key: value for key, value in run.metrics.items() if not key.startswith(MEASURED)}


def _curves(store: Store, run: StageRun) -> Points:
    keys = sorted(key for key in run.metrics if not key.startswith(MEASURED))
    return {key: sorted(store.history([run.run_id], key).get(run.run_id, [])) for key in keys}


def _state(store: Store, run: StageRun) -> str:
    """Return the sha256 of the state with which a stage ended: its file's bytes tell more than its values."""
    digest = hashlib.sha256()
    for part in _parts(torch.load(store.fetch(run.run_id, CHECKPOINT), weights_only=True)):
        digest.update(part)
    return digest.hexdigest()


def _parts(state: Any) -> Iterator[bytes]:
    if isinstance(state, torch.Tensor):
        yield f"{state.dtype} {tuple(state.shape)}".encode()
        yield state.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(state, dict):
        for key, value in state.items():
            yield repr(key).encode()
            yield from _parts(value)
    elif isinstance(state, list | tuple):
        yield f"{len(state)} of".encode()
        for value in state:
            yield from _parts(value)
    else:
        yield repr(state).encode()
