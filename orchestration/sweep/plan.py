"""What a sweep is before it runs: its ledger, what it asks, what would run; its mistakes are found here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leoclr import RESULTS_VERSION
from orchestration import folders, prepare
from orchestration.plan import Plan, State
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
    for point in probed:
        sweep_trial_spec.pipeline(sweep, point, sweep.seeds[:1], before)
    first = sweep_trial_spec.pipeline(sweep, probed[0], sweep.seeds[:1])
    planner = Planner(sweep, home, store.past_runs())
    planned = planner.plan(Asked(0, probed[0], sweep.seeds[:1]))[1]
    notes = prepare.look_over(first, planned, home)
    folders.bring_sweeps(home, root_of(home, sweep.name))
    folder = folder_of(home, sweep.name, new=new)
    if not dry or folder.exists():
        agree(folder, identity(sweep, first))
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


def identity(sweep: SweepSpec, first: PipelineSpec) -> dict[str, Any]:
    """Return all that decides what the trials are; how many of them run, and how many at once, may change."""
    arm = first.arms[0]
    goals = {title: goal.model_dump(exclude={"unit"}) for title, goal in sweep.goals.items()}
    return {
        "results_version": RESULTS_VERSION,  # trials of two versions are not compared
        "base": {"name": first.name, **{name: stage.params_json for name, stage in arm.stages.items()}},
        "axes": sweep_space.render(sweep.space),
        "seeds": list(sweep.seeds),
        "objectives": goals,
        "guards": {title: guard.model_dump() for title, guard in sweep.guards.items()},
        "search": sweep.search.model_dump(),
        "scheduler": sweep.scheduler.model_dump(),
    }


def overview(prepared: Prepared, search: Search) -> list[tuple[Asked, Plan]]:
    """Return the trials that are still to run, each with its plan, of a search only those that are known."""
    found: list[tuple[Asked, Plan]] = []
    while prepared.sweep.one_seed_a_trial and (asked := search.ask()):
        found.append((asked, prepared.planner.plan(asked)[1]))
    return found


def in_words(prepared: Prepared, search: Search) -> str:
    """Return what would run, for a person."""
    sweep, ledger = prepared.sweep, prepared.ledger
    kept = sum(entry.state in KEPT for entry in ledger.entries.values())
    lines = [f"{sweep.name}: {sweep.title}", "", f"{search.total} trials of {sweep.base}, {kept} of them are finished"]
    fresh, times = dict[str, Plan](), dict[str, float | None]()
    for asked, plan in overview(prepared, search):
        todo = {stage.fingerprint: stage for stage in plan.stages if stage.state is State.TODO}
        new = [stage.name for stage in todo.values() if stage.fingerprint not in fresh]
        fresh |= dict.fromkeys(todo, plan)
        times |= {own: stage.estimate_s for own, stage in todo.items()}
        said = " ".join(f"{axis}={sweep_space.label(value)}" for axis, value in _short(sweep, asked.point).items())
        shared = len(todo) - len(new)
        words = ", ".join(new) or "nothing"
        lines.append(
            f"  {asked.number:3} {said} seed={asked.seeds[0]}: runs {words}" + (f", shares {shared}" if shared else "")
        )
    known = [time for time in times.values() if time is not None]
    if times and len(known) == len(times):
        lines.append(f"{len(times)} stages to run, about {sum(known) / 60:.0f} min one after the other")
    elif times:
        lines.append(f"{len(times)} stages to run, time unknown (no earlier run tells)")
    return "\n".join(lines)


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
