"""Tracked runs become cells: mean and spread over the runs of a row and a column, or why there is no number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from orchestration.errors import NotFound
from orchestration.records import StageRun, Submission
from orchestration.table_spec import Better, Column, Row, TableSpec

SHORT = 8  # characters of a run id that tell runs apart


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs of one row and one column."""

    mean: float | None  # None: no run has the number, and `missing` says why
    std: float | None  # sample standard deviation (n - 1); None where n < 2
    n: int
    run_ids: tuple[str, ...]  # of the runs in the mean
    published: float | None
    missing: str  # why arms that belong here have no number; "" where all have
    best: bool = False  # see `_is_best`


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its numbers; `cells[i][j]` belongs to `rows[i]` and `columns[j]`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    pipeline: str
    submission: str  # run id
    status: str  # of the submission
    published_source: str


class Runs(Protocol):
    """What a table asks of the tracking store."""

    def submissions(self, pipeline: str | None = None) -> list[Submission]: ...

    def stage_runs(self, run_ids: Sequence[str]) -> dict[str, StageRun]: ...

    def find(self, reference: str) -> str: ...


def collect(spec: TableSpec, store: Runs, submission: str | None = None) -> Table:
    """Return the table of a submission of the spec's pipeline: the latest, or the one whose run id begins so.

    A cell takes only finished runs, reused ones included. Arms that have none leave their reason.

    Raises:
        NotFound: there is no such submission.
    """
    source = _submission(spec, store, submission)
    runs = store.stage_runs([run_id for stages in source.arms.values() for run_id in stages.values()])
    rows = [[_cell(spec, row, column, source, runs) for column in spec.columns] for row in spec.rows]
    marked = [_mark([row[j] for row in rows], column.better) for j, column in enumerate(spec.columns)]
    return Table(
        title=spec.title,
        rows=tuple(row.title for row in spec.rows),
        columns=spec.columns,
        cells=tuple(tuple(column[i] for column in marked) for i in range(len(rows))),
        pipeline=source.pipeline,
        submission=source.run_id,
        status=source.status,
        published_source=spec.published_source,
    )


def _submission(spec: TableSpec, store: Runs, reference: str | None) -> Submission:
    if reference is None:
        found = store.submissions(spec.pipeline)
        if not found:
            hint = f"leoclr-ops submit {spec.pipeline}"
            raise NotFound(f"the pipeline `{spec.pipeline}` was never submitted", hint=hint)
        return found[0]
    run_id = store.find(reference)
    for each in store.submissions():
        if each.run_id == run_id:
            return each
    parent = store.stage_runs([run_id])[run_id].parent
    raise NotFound(f"run {run_id[:SHORT]} is a stage, not a submission", hint=f"its submission is {parent[:SHORT]}")


def _cell(spec: TableSpec, row: Row, column: Column, source: Submission, runs: Mapping[str, StageRun]) -> Cell:
    values: list[float] = []
    used: list[str] = []
    reasons: list[str] = []
    for arm, labels in source.arm_labels.items():
        if row.labels.items() <= labels.items():
            run = runs.get(source.arms[arm].get(column.stage, ""))
            if run is not None and (value := _value(run, column.metric)) is not None:
                values.append(value)
                used.append(run.run_id)
            else:
                reasons.append(_reason(run, column))
    if not values and not reasons:
        reasons = ["the submission has no such arm"]
    return Cell(
        mean=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        run_ids=tuple(used),
        published=spec.published.get((row.title, column.title)),
        missing="; ".join(dict.fromkeys(reasons)),
    )


def _value(run: StageRun, metric: str) -> float | None:
    value = run.metrics.get(metric) if run.status == "FINISHED" else None
    return value if value is not None and math.isfinite(value) else None


def _reason(run: StageRun | None, column: Column) -> str:
    if run is None:
        return "not run"
    words = {"FAILED": "failed in", "KILLED": "stopped in", "RUNNING": "running in"}
    short = f"run {run.run_id[:SHORT]}"
    if run.status in words:
        return f"{words[run.status]} {short}"
    known = column.metric in run.metrics
    return f"{column.metric} is {run.metrics[column.metric]} in {short}" if known else f"no {column.metric} in {short}"


def _mark(cells: Sequence[Cell], better: Better) -> list[Cell]:
    """Return the cells of a column, the best one marked where it is clearly the best."""
    sign = 1.0 if better == "higher" else -1.0
    order = sorted(
        (i for i, cell in enumerate(cells) if cell.mean is not None),
        key=lambda i: sign * (cells[i].mean or 0.0),
        reverse=True,
    )
    marked = list(cells)
    if len(order) > 1 and _is_best(cells[order[0]], cells[order[1]]):
        marked[order[0]] = replace(cells[order[0]], best=True)
    return marked


def _is_best(first: Cell, second: Cell) -> bool:
    """Return whether the gap to the runner-up exceeds both standard deviations; one run alone proves nothing."""
    if first.mean is None or second.mean is None or first.std is None or second.std is None:
        return False
    return abs(first.mean - second.mean) > max(first.std, second.std)
