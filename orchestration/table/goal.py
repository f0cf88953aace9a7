"""A table as a goal: which of its cells are missing, which stages of which pipelines would fill them, what that takes.

Data need not be there: stages are told from runs by their params, as far as a table can see them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from jobs import protocols
from leoclr import RESULTS_VERSION
from orchestration import forecast
from orchestration import spec as pipelines
from orchestration.errors import NotFound
from orchestration.fingerprint import digest_of
from orchestration.forecast import Speed
from orchestration.plan import History, PastRun
from orchestration.progress import duration
from orchestration.schedule import Size
from orchestration.spec import Arm, PipelineSpec, StageSpec
from orchestration.table import runs as table_runs
from orchestration.table.cell import Cell
from orchestration.table.collect import Table, collect, seed_of
from orchestration.table.runs import PRETRAIN
from orchestration.table.spec import Column, Row, TableSpec
from orchestration.timeline import Task
from orchestration.tracking import Store


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell that has not all of its runs."""

    row: str
    column: str
    why: str
    stages: tuple[tuple[str, str, str], ...]  # pipeline, arm and stage that would fill it; empty: nothing does


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that is in the way to a missing cell."""

    mark: str  # tells it from the other steps
    needs: Mapping[str, str]  # marks of the steps that it comes after, by stage name
    pipeline: str
    arm: str
    stage: StageSpec
    is_done: bool
    seconds: float | None  # None: no run of this kind tells

    @property
    def gpus(self) -> float:
        """How many GPUs it asks for."""
        return self.stage.resources.most * (self.stage.resources.gpus_per_worker or 0.0)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is missing in a table, and what to do about it."""

    table: TableSpec
    cells: int  # that there should be
    missing: tuple[Missing, ...]
    steps: tuple[Step, ...]  # inputs first, each once
    pipelines: tuple[PipelineSpec, ...]  # cut down to the steps


def find(table: TableSpec, store: Store | None, overrides: Sequence[str] = ()) -> Goal:
    """Return the goal of a table, given what `store` remembers; None is a store that does not exist yet.

    Raises: SpecError where a pipeline of the table says something impossible; StoreError when the store cannot be read.
    """
    loaded = [pipelines.load(name, overrides) for name in table.sources]
    numbers = _numbers(table, store)
    missing = [each for cells in _cells(table, numbers) if (each := _missing(table, loaded, *cells))]
    parts = [_cut(pipeline, missing) for pipeline in loaded]
    past = [run for run in (store.past_runs() if store else []) if run.results_version == RESULTS_VERSION]
    return Goal(
        table=table,
        cells=sum(not row.why for row in table.rows) * len(table.columns),
        missing=tuple(missing),
        steps=tuple(_steps(parts, past)),
        pipelines=tuple(part for part in parts if part.arms),
    )


def in_words(goal: Goal) -> str:
    """Return the missing cells, the stages that fill them, and the time and GPU-hours these take."""
    head = f"{goal.table.name}: {goal.table.title}"
    if not goal.missing:
        return f"{head}\n\nall {goal.cells} cells have their runs"
    lines = [head, "", f"{len(goal.missing)} of {goal.cells} cells are missing"]
    lines += [f"  {each.row}, {each.column}: {each.why}{_by(each)}" for each in goal.missing]
    todo = [step for step in goal.steps if not step.is_done]
    if not todo:
        return "\n".join(lines)
    lines += ["", f"{_count(len(todo), 'stage')} to run, {len(goal.steps) - len(todo)} finished before"]
    lines += [f"  {step.pipeline}: {f'{step.stage.name} {step.arm}'.strip()}: {_time(step)}" for step in todo]
    return "\n".join([*lines, "", _total(todo)])


def tasks(goal: Goal, nodes: Sequence[Size], *, speed: float | None = None) -> list[Task]:
    """Return the steps that are still to run, as `forecast.tasks` does those of a plan."""
    known = {step.mark: step.stage for step in goal.steps}
    return [
        forecast.task(
            step.mark,
            step.stage,
            {name: known[mark] for name, mark in step.needs.items()},
            needs=step.needs.values(),
            has_gpus=any(node.gpus for node in nodes),
            time=step.seconds if step.seconds is not None else speed and Speed(speed),
        )
        for step in goal.steps
        if not step.is_done
    ]


def _numbers(table: TableSpec, store: Store | None) -> Table | None:
    """Return the table as it is; None where its pipeline was never submitted."""
    try:
        return collect(table, store)
    except NotFound:
        return None


def _cells(table: TableSpec, numbers: Table | None) -> Iterator[tuple[Row, Column, Cell]]:
    empty = Cell(None, None, 0, (), None, "not run")
    for i, row in enumerate(table.rows):
        for j, column in enumerate(table.columns):
            if not row.why:
                yield row, column, numbers.cells[i][j] if numbers else empty


def _missing(table: TableSpec, loaded: Sequence[PipelineSpec], row: Row, column: Column, cell: Cell) -> Missing | None:
    """Return what a cell lacks; None where it has every run that the pipelines promise it."""
    fitting = [
        (pipeline.name, arm, stage)
        for pipeline in loaded
        for arm in pipeline.arms
        for stage in arm.stages.values()
        if _fits(table, row, column, arm, stage)
    ]
    untold = [_untold(table, row, column, stage) for _, _, stage in fitting]
    found = {
        (pipeline, arm.name, stage.name): _seed(table, row, arm, stage)
        for (pipeline, arm, stage), names in zip(fitting, untold, strict=True)
        if not names
    }
    lacking = tuple(key for key, seed in found.items() if seed not in cell.values)
    if cell.n and not lacking:
        return None
    why = cell.missing or f"{cell.n} of {len(found)} runs"
    if fitting and not found:
        names = ", ".join(f"params.settings.{name}" for name in untold[0])
        why += f"; {fitting[0][0]} changes the protocol of {fitting[0][2].name}, and `runs` does not say so: {names}"
    return Missing(row.title, column.title, why, lacking)


def _fits(table: TableSpec, row: Row, column: Column, arm: Arm, stage: StageSpec) -> bool:
    if table.pipeline:
        return stage.name == column.stage and row.labels.items() <= arm.labels.items()
    protocol = protocols.title(stage.kind, stage.params).partition(" ")[0]
    return stage.kind == column.stage and table_runs.wanted(table.selector(row, column), _facts(arm, stage), protocol)


def _untold(table: TableSpec, row: Row, column: Column, stage: StageSpec) -> list[str]:
    """Return the settings by which a stage differs from its protocol unsaid, so that its runs would not count."""
    if table.pipeline:
        return []
    return table_runs.untold(protocols.title(stage.kind, stage.params), table.selector(row, column))


def _facts(arm: Arm, stage: StageSpec) -> dict[str, Any]:
    """Return all params that a selector may ask for, as `Traced.facts` of the run that this stage will be."""
    return {"params": stage.params_json, PRETRAIN: _pretrain(arm, stage)}


def _pretrain(arm: Arm, stage: StageSpec) -> Mapping[str, Any]:
    if stage.kind == PRETRAIN:
        return stage.params_json
    return next((arm.stages[need].params_json for need in stage.needs if arm.stages[need].kind == PRETRAIN), {})


def _seed(table: TableSpec, row: Row, arm: Arm, stage: StageSpec) -> str:
    if table.pipeline:
        return seed_of(arm.labels, row)
    return json.dumps([params.get("seed") for params in _facts(arm, stage).values()])


def _cut(pipeline: PipelineSpec, missing: Sequence[Missing]) -> PipelineSpec:
    """Return a pipeline with the stages that missing cells lack, and what these need."""
    wanted: dict[str, set[str]] = {}
    for name, arm, stage in dict.fromkeys(key for each in missing for key in each.stages):
        if name == pipeline.name:
            stages = next(each for each in pipeline.arms if each.name == arm).stages
            wanted.setdefault(arm, set()).update(_with_needs(stage, stages))
    return pipelines.part(pipeline, wanted)


def _with_needs(stage: str, stages: Mapping[str, StageSpec]) -> Iterator[str]:
    yield stage
    for need in stages[stage].needs:
        yield from _with_needs(need, stages)


def _steps(parts: Sequence[PipelineSpec], past: Sequence[PastRun]) -> Iterator[Step]:
    """Yield the stages of all parts, each once, however many arms and pipelines share it."""
    done, history = _finished(past), History(past)
    seen: set[str] = set()
    for part in parts:
        for arm in part.arms:
            marks: dict[str, str] = {}
            for name in TopologicalSorter({name: each.needs for name, each in arm.stages.items()}).static_order():
                stage = arm.stages[name]
                mark = marks[name] = _mark(stage.kind, stage.params_json, [marks[need] for need in stage.needs])
                if mark not in seen:
                    seen.add(mark)
                    needs = {need: marks[need] for need in stage.needs}
                    yield Step(mark, needs, part.name, arm.name, stage, mark in done, history.estimate(stage))


def _finished(past: Sequence[PastRun]) -> set[str]:
    """Return the marks of the finished runs whose artifacts are sound."""
    runs = {run.fingerprint: run for run in sorted(past, key=lambda run: run.reusable)}

    def mark(own: str) -> str:
        run = runs.get(own)
        return _mark(run.kind, run.params, [mark(need) for need in run.inputs.values()]) if run else own

    return {mark(own) for own, run in runs.items() if run.reusable}


def _mark(kind: str, params: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """Return what tells stages apart where no data is there to be digested."""
    return digest_of([kind, params, sorted(inputs)])


def _by(each: Missing) -> str:
    if not each.stages:
        return "; no pipeline of the table fills it"
    pipeline, arm, stage = each.stages[0]
    more = f" and {len(each.stages) - 1} more" if len(each.stages) > 1 else ""
    return f" <- {pipeline}: {f'{stage} {arm}'.strip()}{more}"


def _time(step: Step) -> str:
    if step.seconds is None:
        return "unknown: no run of this kind yet"
    gpu = f", {step.seconds * step.gpus / 3600:.1f} GPU-hours" if step.gpus else ""
    return f"about {duration(step.seconds)}{gpu}"


def _total(todo: Sequence[Step]) -> str:
    known = [step for step in todo if step.seconds is not None]
    if not known:
        return "GPU-hours unknown: no run of this kind yet"
    seconds = sum(step.seconds or 0.0 for step in known)
    hours = sum((step.seconds or 0.0) * step.gpus for step in known) / 3600
    lacking = f", and {_count(len(todo) - len(known), 'stage')} unknown" if len(known) < len(todo) else ""
    return f"about {duration(seconds)} one after the other, {hours:.1f} GPU-hours{lacking}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
