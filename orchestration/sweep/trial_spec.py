"""A point of a sweep becomes a pipeline: the base, the sweep's changes, the point's, the seeds; nothing it needs not.

What the sweep asks of its base is checked here, each mistake at its place in the sweep's file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import jobs
from orchestration import prepare, spec
from orchestration.document import Place, Tree, show
from orchestration.errors import SpecError, did_you_mean
from orchestration.matrix import Change
from orchestration.plan import PastRun, Plan
from orchestration.spec import Arm, PipelineSpec, StageSpec
from orchestration.storage import Home
from orchestration.sweep import space as sweep_space
from orchestration.sweep.ledger import Asked
from orchestration.sweep.options import Asha, Median, NoScheduler, Pbt
from orchestration.sweep.result import MEMBER
from orchestration.sweep.space import Axis, Lineage
from orchestration.sweep.spec import SweepSpec


def pipeline(sweep: SweepSpec, point: Mapping[str, Tree], seeds: Sequence[int], before: Lineage = ()) -> PipelineSpec:
    """Return the pipeline of a trial: an arm a seed, and of the base's stages those that are looked at and their needs.

    A member of a population trains up to the end of its generation, on from what those `before` it trained; only one
    that came to the end of its schedule is compared.
    Raises: SpecError, also where the base has an axis that the sweep leaves open.
    """
    if not isinstance(sweep.scheduler, Pbt):
        return spec.cut(whole := _whole(sweep, point, seeds), _looked_at(sweep, whole.arms[0]))
    stage, interval = sweep.scheduler.stage, sweep.scheduler.interval
    _stage(stage, _whole(sweep, point, seeds).arms[0], sweep.file.at("scheduler"))
    ended = [_whole(sweep, each, seeds, until=interval * n) for n, each in enumerate(before, 1)]
    end = interval * (len(before) + 1)
    is_last = len(before) + 1 >= generations(sweep, point)
    last = _whole(sweep, point, seeds, until=None if is_last else end)
    chained = spec.going_on(last, ended, stage, sweep.file.at("axes"))
    return spec.cut(chained, _looked_at(sweep, last.arms[0]) if is_last else [stage])


def generations(sweep: SweepSpec, point: Mapping[str, Tree]) -> int:
    """Return how many generations a population has: the last one ends with the schedule. Raises: SpecError."""
    assert isinstance(sweep.scheduler, Pbt)
    arm = _whole(sweep, point, sweep.seeds[:1]).arms[0]
    stage = _stage(sweep.scheduler.stage, arm, sweep.file.at("scheduler"))
    if stage.kind != "pretrain":
        place = sweep.file.at("scheduler", "stage")
        raise SpecError(f"a population pre-trains, and {show(stage.name)} is a {stage.kind} stage", place=str(place))
    return max(1, math.ceil(int(stage.params_json["epochs"]) / sweep.scheduler.interval))


def _whole(
    sweep: SweepSpec, point: Mapping[str, Tree], seeds: Sequence[int], *, until: int | None = None
) -> PipelineSpec:
    """Return the base with all changes, its pre-training ended after epoch `until`. Raises: SpecError."""
    place = sweep.file.at("axes")
    changes = list(sweep.changes)
    if until is not None:
        assert isinstance(sweep.scheduler, Pbt)
        path = (sweep.scheduler.stage, "params", "until")
        changes.append(Change(path, until, sweep.file.at("scheduler", "interval")))
    for axis in sweep.space:
        if axis.name in point:
            changes += _changes(axis, point[axis.name], place.at(axis.name))
    changes.append(Change(("matrix", "seed"), list(seeds), sweep.file.at("seeds")))
    loaded = spec.load(sweep.base, changes)
    if len(loaded.arms) != len(seeds):
        first = loaded.arms[0].labels
        open_axes = [axis for axis in first if len({arm.labels[axis] for arm in loaded.arms}) > 1 and axis != "seed"]
        hint = f"name it in `axes`, or fix it: `set: {{matrix.{open_axes[0]}: [{first[open_axes[0]]}]}}`"
        fact = f"the base {show(loaded.name)} has an axis {show(open_axes[0])} that the sweep leaves open"
        raise SpecError(fact, place=str(place), hint=hint)
    return loaded


def metric(sweep: SweepSpec, title: str, arm: Arm) -> str:
    """Return the name of an objective's number in `arm`: a `*` stands for what differs between trials."""
    goal = sweep.goals[title]
    return _one_of(goal.metric, arm.stages[goal.stage], sweep.file.at("objectives", title, "metric"))


def labels(sweep: SweepSpec, asked: Asked) -> dict[str, str]:
    """Return the label of each axis that applies, by its short name; and which member of a population it is."""
    short = sweep_space.short_names(sweep.space)
    found = {short[axis]: sweep_space.label(value) for axis, value in asked.point.items()}
    if isinstance(sweep.scheduler, Pbt):
        found[MEMBER] = str(asked.number % sweep.scheduler.population)
    return found


class Planner:
    """Plans trials one after the other: the data's digests and what ran before are asked for once."""

    def __init__(self, sweep: SweepSpec, home: Home, past: Sequence[PastRun]) -> None:
        self._sweep, self._home, self._past = sweep, home, past
        self._digests: dict[tuple[str, Path | None], str] = {}

    def plan(self, asked: Asked) -> tuple[PipelineSpec, Plan]:
        """Return the pipeline and the plan of a trial. Raises: SpecError, DataProblem, NotFound."""
        loaded = pipeline(self._sweep, asked.point, asked.seeds, asked.before)
        names = {stage.params.dataset for arm in loaded.arms for stage in arm.stages.values()}
        if any((name, loaded.data.get(name)) not in self._digests for name in names):
            found = prepare.digests(loaded, self._home)
            self._digests |= {(name, loaded.data.get(name)): digest for name, digest in found.items()}
        known = {name: self._digests[name, loaded.data.get(name)] for name in names}
        return loaded, prepare.decide(loaded, known, self._past)


def _changes(axis: Axis, value: Tree, place: Place) -> list[Change]:
    """Return what a value of an axis changes."""
    found: list[Change] = []
    if axis.sets is not None:
        assert isinstance(value, str)
        where = place.at(value)
        if axis.name == "method":
            found.append(Change(("matrix", "method"), [value], where))
        paths = axis.sets[value].items()
        return found + [Change(tuple(path.split(".")), each, where.at(path)) for path, each in paths]
    if "." in axis.name:
        return [Change(tuple(axis.name.split(".")), value, place)]
    return [Change(("matrix", axis.name), [value], place)]


def _looked_at(sweep: SweepSpec, arm: Arm) -> list[str]:
    """Return the stages with a number that is compared or watched. Raises: SpecError where there is no such number."""
    stages = []
    for title, goal in sweep.goals.items():
        place = sweep.file.at("objectives", title)
        _one_of(goal.metric, _stage(goal.stage, arm, place), place.at("metric"))
        stages.append(goal.stage)
    for title, guard in sweep.guards.items():
        place = sweep.file.at("guards", title)
        _recorded(guard.metric, _stage(guard.stage, arm, place), place.at("metric"))
        stages.append(guard.stage)
    if not isinstance(sweep.scheduler, NoScheduler):
        place = sweep.file.at("scheduler")
        watched = _stage(sweep.scheduler.stage, arm, place)
        _one_of(sweep.scheduler.metric, watched, place.at("metric"))
        if not isinstance(sweep.scheduler, Pbt):  # a generation ends with the number, whatever is recorded before
            _watched(watched, sweep.scheduler, place)
        stages.append(sweep.scheduler.stage)
    return stages


def _watched(stage: StageSpec, scheduler: Asha | Median, place: Place) -> None:
    """Refuse to watch what is recorded too late to stop anything. Raises: SpecError."""
    params, vain = stage.params_json, "so nothing can be stopped early"
    if stage.kind != "pretrain":
        fact = f"{show(stage.name)}, a {stage.kind} stage, has no number before its end, {vain}"
        raise SpecError(fact, place=str(place.at("stage")), hint="a pre-training has, every `knn_every` epochs")
    if not (every := params.get("knn_every")):
        hint = f"set: {{{stage.name}.params.knn_every: 1}}"
        raise SpecError(f"{show(stage.name)} never records knn_top1, {vain}", place=str(place.at("metric")), hint=hint)
    epochs = int(params["epochs"])
    if max(scheduler.grace, int(every)) >= epochs:
        fact = (
            f"the first verdict, after {max(scheduler.grace, int(every))} epochs, is no earlier than the end, {epochs}"
        )
        raise SpecError(fact, place=str(place.at("grace")), hint="a smaller `grace`, or more epochs")


def _stage(name: str, arm: Arm, place: Place) -> StageSpec:
    if name not in arm.stages:
        hint = did_you_mean(name, arm.stages)
        raise SpecError(f"the base has no stage called {show(name)}", place=str(place.at("stage")), hint=hint)
    return arm.stages[name]


def _recorded(metric: str, stage: StageSpec, place: Place) -> None:
    """Refuse a number that a stage is known never to record. Raises: SpecError."""
    known = jobs.recorded(stage.kind, stage.params)
    if known and metric not in known:
        method = stage.params_json.get("method")
        who = f"{show(stage.name)} by {show(method)}" if method else show(stage.name)
        fact = f"{who} records no number called {show(metric)}"
        raise SpecError(fact, place=str(place), hint=did_you_mean(metric, known))


def _one_of(pattern: str, stage: StageSpec, place: Place) -> str:
    known = [each.name for each in jobs.metrics(stage.kind, stage.params)]
    found = [name for name in known if fnmatchcase(name, pattern)]
    if len(found) != 1:
        fact = f"{show(stage.name)} ends with {'no number' if not found else 'several numbers'} called {show(pattern)}"
        raise SpecError(fact, place=str(place), hint=did_you_mean(pattern, known))
    return found[0]
