"""What a submission tells of itself in the store, so that whoever knows only the store can watch it: plan and progress.

The plan is JSON among the submission's artifacts, the progress a tag of each stage that runs. Both come from a store
that anybody may have written: what is not as expected is passed over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import jobs
from orchestration.plan import Plan, State
from orchestration.records import PROGRESS

FILE = "plan.json"
MOST = 10_000  # stages of a plan that are shown


@dataclass(frozen=True, slots=True)
class Announced:
    """A stage of a submission, as it was planned."""

    name: str
    kind: str
    arms: tuple[str, ...]
    fingerprint: str
    todo: bool  # False: finished before, or not needed
    estimate_s: float | None
    shows: str  # the metric to show when it is done


def to_json(plan: Plan) -> str:
    """Return the text that `read` reads back."""
    stages = [
        Announced(
            stage.name,
            stage.kind,
            stage.arms,
            stage.fingerprint,
            stage.state is State.TODO,
            stage.estimate_s,
            jobs.module(stage.kind).METRICS[0].name,
        )
        for stage in plan.stages
    ]
    return json.dumps([asdict(stage) for stage in stages], indent=1)


def read(text: str | None) -> tuple[Announced, ...]:
    """Return the stages of a plan; none where the text is not one.

    >>> read('[{"name": "knn", "kind": "knn"}]'), read("no plan"), read(None)
    ((), (), ())
    """
    try:
        return tuple(_stage(each) for each in json.loads(text or "[]")[:MOST])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def progress_tag(epoch: int, epochs: int, fraction: float, metric: tuple[str, float] | None) -> dict[str, str]:
    """Return the tag that says how far a stage is, `fraction` in [0, 1]; `progress` reads it back."""
    return {PROGRESS: json.dumps([epoch, epochs, round(fraction, 4), metric])}


def progress(tags: Mapping[str, str]) -> tuple[int, int, float, tuple[str, float] | None]:
    """Return (epoch, epochs, fraction, metric) of a stage; zeros where it does not say.

    >>> progress(progress_tag(2, 8, 0.25, ("knn_top1", 71.5)))
    (2, 8, 0.25, ('knn_top1', 71.5))
    """
    try:
        epoch, epochs, fraction, metric = json.loads(tags.get(PROGRESS, "null"))
        shown = (str(metric[0]), float(metric[1])) if metric else None
        return int(epoch), int(epochs), min(1.0, max(0.0, float(fraction))), shown
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return 0, 0, 0.0, None


def _stage(raw: Mapping[str, object]) -> Announced:
    arms = raw["arms"]
    return Announced(
        name=str(raw["name"]),
        kind=str(raw["kind"]),
        arms=tuple(map(str, arms)) if isinstance(arms, list) else (),
        fingerprint=str(raw["fingerprint"]),
        todo=bool(raw["todo"]),
        estimate_s=_seconds(raw["estimate_s"]),
        shows=str(raw["shows"]),
    )


def _seconds(value: object) -> float | None:
    """Return a number as it is, None for anything else; JSON has whole numbers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None
