"""What a sweep is before it runs: its ledger, what it asks, what would run; its mistakes are found here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from leoclr import RESULTS_VERSION
from orchestration import folders, prepare
from orchestration.plan import PlannedStage, State
from orchestration.preflight import Note
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.sweep import space as sweep_space
from orchestration.sweep import trial_spec as sweep_trial_spec
from orchestration.sweep.ledger import KEPT, Asked, Ledger, agree, folder_of, root_of
from orchestration.sweep.options import Pbt
from orchestration.sweep.search import Search
from orchestration.sweep.space import Point
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.trial_spec import Planner
from orchestration.tracking import Store


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sweep that can run."""

    sweep: SweepSpec
    ledger: Ledger
    planner: Planner
    notes: tuple[Note, ...]  # what an expert would warn of


def make(sweep: SweepSpec, home: Home, store: Store, *, new: bool = False, dry: bool = False) -> Prepared:
    """Return what it takes to run a sweep, checked; a `dry` one leaves no trace but copies of what the mirror has.

    Raises: SpecError for a value that no pipeline takes, and where the sweep of this name asked something else;
        DataProblem; NotFound.
    """
    probed = list(probes(sweep))
    before = (probed[0],) if isinstance(sweep.scheduler, Pbt) else ()
    loaded = [sweep_trial_spec.pipeline(sweep, point, sweep.seeds[:1], before) for point in probed]
    first = sweep_trial_spec.pipeline(sweep, probed[0], sweep.seeds[:1])
    planner = Planner(sweep, home, store.past_runs())
    planned = planner.plan(Asked(0, probed[0], sweep.seeds[:1]))[1]
    notes = prepare.look_over(first, planned, home)
    folders.bring_sweeps(home, root_of(home, sweep.name))
    folder = folder_of(home, sweep.name, new=new)
    if not dry or folder.exists():
        agree(folder, identity(sweep, first.name, loaded))
    return Prepared(sweep, Ledger(folder), planner, tuple(notes))


def probes(sweep: SweepSpec) -> Iterator[Point]:
    """Yield points in which every value of every axis stands once, and both ends of every range."""
    first: Point = {}
    for axis in sweep.space:
        if axis.applies(first):
            first[axis.name] = axis.values[0] if axis.kind in sweep_space.LISTS else _end(axis, axis.low)
    yield first
    for axis in sweep.space:
        ends = axis.values if axis.kind in sweep_space.LISTS else (_end(axis, axis.low), _end(axis, axis.high))
        for value in ends:
            yield _through(sweep.space, axis.name, value, first)


def identity(sweep: SweepSpec, base: str, probed: Sequence[PipelineSpec]) -> dict[str, Any]:
    """Return all that decides what the trials are; how many of them run, and how many at once, may change.

    What the base says of each value is in the pipelines of `probes`. The order of axes and names decides which trial
    has which number, and which name is the baseline.
    """
    goals = {title: goal.model_dump(exclude={"unit"}) for title, goal in sweep.goals.items()}
    return {
        "results_version": RESULTS_VERSION,  # trials of two versions are not compared
        "base": {"name": base, **_params(probed)},
        "axes": sweep_space.render(sweep.space),
        "order": {
            "axes": [axis.name for axis in sweep.space],
            **{axis.name: list(axis.values) for axis in sweep.space if axis.sets is not None},
        },
        "seeds": list(sweep.seeds),
        "objectives": goals,
        "guards": {title: guard.model_dump() for title, guard in sweep.guards.items()},
        "search": sweep.search.model_dump(),
        "scheduler": sweep.scheduler.model_dump(),
    }


def _params(probed: Sequence[PipelineSpec]) -> dict[str, Any]:
    """Return the params of each stage; one in which the probes differ is the list of its values."""
    arms = [loaded.arms[0] for loaded in probed]
    found: dict[str, Any] = _together([{name: stage.params_json for name, stage in arm.stages.items()} for arm in arms])
    return found


def _together(trees: Sequence[Any]) -> Any:
    """Return several trees as one, whose leaves are what all have there, or the list of what each has."""
    if all(isinstance(tree, Mapping) for tree in trees):
        return {key: _together([tree.get(key) for tree in trees]) for key in dict.fromkeys(chain(*trees))}
    return trees[0] if all(tree == trees[0] for tree in trees) else list(trees)


def in_words(prepared: Prepared, search: Search) -> str:
    """Return what would run, for a person: each trial that is left to run, as far as its values are known by now."""
    sweep, entries = prepared.sweep, prepared.ledger.entries
    past = {number for number, entry in entries.items() if entry.state in KEPT}
    lines = [
        f"{sweep.name}: {sweep.title}",
        "",
        f"{search.total} trials of {sweep.base}, {len(past)} of them are finished",
    ]
    todo: dict[str, float | None] = {}  # seconds by fingerprint, of the stages to run
    for asked in search.foreseen():
        past.add(asked.number)
        fresh, shared = _todo(prepared, asked, todo)
        said = " ".join(f"{axis}={sweep_space.label(value)}" for axis, value in _short(sweep, asked.point).items())
        line = f"  {asked.number:3} {said} {_seeds(asked)}: runs {_names(fresh)}"
        lines.append(line + (f", shares {shared}" if shared else ""))
        todo |= {stage.fingerprint: stage.estimate_s for stage in fresh}
    seconds = list(todo.values())
    left = {number: len(search.like(number).before) for number in range(search.total) if number not in past}
    alike = Counter(left.values())
    for before, others in alike.items():
        typical = search.like(next(number for number in left if left[number] == before))
        fresh = _todo(prepared, typical, {})[0][before:]  # the first ones are trials of the generations before
        what = "whose values follow from what earlier ones reach"
        lines.append(f"  {others} {what}, {_seeds(typical)}: each runs {_names(fresh)}")
        seconds += [stage.estimate_s for stage in fresh] * others
    if alike:
        names = sweep_space.short_names(sweep.space)
        lines += [f"      {names[axis.name]}: {_range(axis)}" for axis in sweep.space]
    known = [time for time in seconds if time is not None]
    if seconds and len(known) == len(seconds):
        most = " at most" if sweep.scheduler.kind in ("asha", "median") else ""
        lines.append(f"{len(seconds)} stages to run, about {sum(known) / 60:.0f} min one after the other{most}")
    elif seconds:
        lines.append(f"{len(seconds)} stages to run, time unknown (no earlier run tells)")
    return "\n".join(lines)


def _names(stages: Sequence[PlannedStage]) -> str:
    return ", ".join(stage.name for stage in stages) or "nothing"


def _todo(prepared: Prepared, asked: Asked, before: Container[str]) -> tuple[list[PlannedStage], int]:
    """Return the stages of a trial that would run, and how many more it shares with those `before`."""
    todo = {each.fingerprint: each for each in prepared.planner.plan(asked)[1].stages if each.state is State.TODO}
    fresh = [stage for own, stage in todo.items() if own not in before]
    return fresh, len(todo) - len(fresh)


def _seeds(asked: Asked) -> str:
    return f"seed={asked.seeds[0]}" if len(asked.seeds) == 1 else f"seeds={','.join(map(str, asked.seeds))}"


def _range(axis: sweep_space.Axis) -> str:
    """Return in words where the values of an axis come from."""
    if axis.kind in sweep_space.LISTS:
        found = ", ".join(sweep_space.label(value) for value in axis.values)
    else:
        found = f"{sweep_space.label(_end(axis, axis.low))} to {sweep_space.label(_end(axis, axis.high))}, {axis.kind}"
    only = (f"{name} is {' or '.join(map(sweep_space.label, values))}" for name, values in axis.when.items())
    return found + (f" (where {', '.join(only)})" if axis.when else "")


def _short(sweep: SweepSpec, point: Mapping[str, Any]) -> dict[str, Any]:
    names_ = sweep_space.short_names(sweep.space)
    return {names_[axis]: value for axis, value in point.items()}


def _end(axis: sweep_space.Axis, number: float) -> int | float:
    return int(number) if axis.kind == "int" else number


def _through(space: sweep_space.Space, name: str, value: Any, first: Mapping[str, Any]) -> Point:
    """Return a point with `value` on axis `name`, the conditions of that axis met."""
    wanted: dict[str, Any] = {name: value}
    for axis in reversed(space):
        if axis.name in wanted:
            wanted = {**{other: values[0] for other, values in axis.when.items()}, **wanted}
    point: Point = {}
    for axis in space:
        if axis.applies(point):
            default = axis.values[0] if axis.kind in sweep_space.LISTS else _end(axis, axis.low)
            point[axis.name] = wanted.get(axis.name, first.get(axis.name, default))
    return point
