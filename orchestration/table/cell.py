"""A table with its numbers: cells, which of them are the best, and how far rows are apart. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration import records
from orchestration.records import StageRun
from orchestration.table.spec import HOURS, Better, Column, Published, Row, TableSpec
from orchestration.table.statistics import Gap, gap

SHORT = 8  # characters of a run id that tell runs apart


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs of one row and one column."""

    mean: float | None  # None: no run has the number, and `missing` says why
    std: float | None  # sample standard deviation (n - 1); None where n < 2
    n: int
    run_ids: tuple[str, ...]  # of the runs in the mean
    published: Published | None
    missing: str  # why arms that belong here have no number; "" where all have
    best: bool = False  # see `_is_best`
    values: Mapping[str, float] = field(default_factory=dict)  # by seed: what two rows may have in common
    group: tuple[str, ...] = ()  # cells of a column are ranked against each other where this is equal


@dataclass(frozen=True, slots=True)
class Apart:
    """A row minus another; `gaps[j]` belongs to the column j, None where nothing can be said."""

    title: str
    gaps: tuple[Gap | None, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its numbers; `cells[i][j]` belongs to `rows[i]` and `columns[j]`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]
    pipeline: str  # "" where runs are selected
    submission: str  # run id
    status: str  # of the submission
    published_source: str
    spec: TableSpec | None = None  # facts, flags and notes; None: it has none
    apart: tuple[Apart, ...] = ()

    def row(self, i: int) -> Row:
        """Return what the file says of row i."""
        return self.spec.rows[i] if self.spec else Row(self.rows[i], {})


def cell(found: Sequence[tuple[str, StageRun | None]], column: Column, published: Published | None) -> Cell:
    """Return the cell of runs, each with its seed; None is a run that should be there."""
    values: dict[str, float] = {}
    used: list[StageRun] = []
    reasons: list[str] = []
    for seed, run in found:
        if run is not None and (value := value_of(run, column.metric)) is not None:
            values[seed if seed not in values else f"{seed} {run.run_id}"] = value
            used.append(run)
        else:
            reasons.append(reason(run, column.metric))
    return Cell(
        mean=statistics.fmean(values.values()) if values else None,
        std=statistics.stdev(values.values()) if len(values) > 1 else None,
        n=len(values),
        run_ids=tuple(run.run_id for run in used),
        published=published,
        missing="; ".join(dict.fromkeys(reasons)),
        values=values,
        group=tuple(sorted({f"{run.tags.get(records.PROTOCOL, '')} on {run.params.get('dataset')}" for run in used})),
    )


def assemble(spec: TableSpec, rows: Sequence[Sequence[Cell]], *, source: Sequence[str] = ("", "", "")) -> Table:
    """Return the table of these cells, ranked; `source`: pipeline, run id and status, where it is one submission's."""
    grouped = [
        [replace(each, group=(*each.group, *_facts(spec, row))) for each in cells]
        for row, cells in zip(spec.rows, rows, strict=True)
    ]
    marked = [_mark([cells[j] for cells in grouped], column.better) for j, column in enumerate(spec.columns)]
    cells = tuple(tuple(column[i] for column in marked) for i in range(len(grouped)))
    pipeline, submission, status = source
    return Table(
        title=spec.title,
        rows=tuple(row.title for row in spec.rows),
        columns=spec.columns,
        cells=cells,
        pipeline=pipeline,
        submission=submission,
        status=status,
        published_source=spec.published_source,
        spec=spec,
        apart=_apart(spec, rows),
    )


def value_of(run: StageRun, metric: str) -> float | None:
    """Return the number of a finished run; None where there is none, or none that is finite."""
    if run.status != "FINISHED":
        return None
    if metric == HOURS:
        return float(run.tags[records.SECONDS]) / 3600 if records.SECONDS in run.tags else None
    value = run.metrics.get(metric)
    return value if value is not None and math.isfinite(value) else None


def reason(run: StageRun | None, metric: str) -> str:
    """Return why a run has no number."""
    if run is None:
        return "not run"
    words = {"FAILED": "failed in", "KILLED": "stopped in", "RUNNING": "running in"}
    short = f"run {run.run_id[:SHORT]}"
    if run.status in words:
        return f"{'diverged in' if run.diverged else words[run.status]} {short}"
    known = metric in run.metrics
    return f"{metric} is {run.metrics[metric]} in {short}" if known else f"no {metric} in {short}"


def _facts(spec: TableSpec, row: Row) -> list[str]:
    return [f"{name} {row.facts.get(name)}" for name in spec.equal]


def _apart(spec: TableSpec, rows: Sequence[Sequence[Cell]]) -> tuple[Apart, ...]:
    """Return the differences that the file asks for; which rows are a fair pair is its author's word."""
    by_key = {row.key: cells for row, cells in zip(spec.rows, rows, strict=True)}
    return tuple(
        Apart(
            each.title,
            tuple(
                gap(of.values, minus.values) if of.group == minus.group else None
                for of, minus in zip(by_key[each.of], by_key[each.minus], strict=True)
            ),
        )
        for each in spec.differences
    )


def _mark(cells: Sequence[Cell], better: Better) -> list[Cell]:
    """Return the cells of a column, the best of each group marked where it is clearly the best."""
    sign = 1.0 if better == "higher" else -1.0
    return [replace(each, best=_is_best(each, cells, sign)) for each in cells]


def _is_best(one: Cell, cells: Sequence[Cell], sign: float) -> bool:
    """Return whether a cell is better than each it is ranked against, and each interval of the gap leaves out zero.

    One run alone has no interval: beside it nothing is best.
    """
    others = [each for each in cells if each is not one and each.n and each.group == one.group]
    gaps = [gap(one.values, other.values) for other in others]
    return bool(gaps) and all(each is not None and each.clear and sign * each.mean > 0 for each in gaps)
