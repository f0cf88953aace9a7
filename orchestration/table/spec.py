"""What a table file says, checked: which runs are its rows and columns, what is published, what is comparable.

A file has one of two forms, see `table_read`:

    pipeline: quickstart      the rows are labels of an axis of its matrix; cells come from one submission, the latest
    pipelines: [table-5]      rows and columns select among all tracked runs; the pipelines named are those that fill it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jobs
from orchestration.document import Tree
from orchestration.spec import PipelineSpec

Better = Literal["higher", "lower"]

FOLDER = Path(__file__).parents[1] / "tables"
SEED = "seed"  # the axis that tables average over
HOURS = "hours"  # a column's metric that every stage has, though none logs it: how long it took, all attempts together


@dataclass(frozen=True, slots=True)
class Published:
    """What somebody else reports."""

    value: float | None  # None: the claim is unknown
    source: str = ""
    flags: tuple[str, ...] = ()  # keys of TableSpec.flags


@dataclass(frozen=True, slots=True)
class Row:
    """The arms that have all of `labels`, or the runs that have all of `runs`."""

    title: str
    labels: Mapping[str, str]  # label by axis
    key: str = ""  # in the file
    runs: Mapping[str, Tree] = field(default_factory=dict)  # value by path, see `table_read.PATHS`
    facts: Mapping[str, str | int | float] = field(default_factory=dict)  # shown beside the title, by name
    flags: tuple[str, ...] = ()
    why: str = ""  # there are none of ours; "" where there should be


@dataclass(frozen=True, slots=True)
class Column:
    """One number that a stage ends with."""

    title: str
    stage: str  # its name in the pipeline; its kind where runs are selected
    metric: str
    better: Better = "higher"
    decimals: int = 1  # accuracies are in percent: a tenth is one image in a thousand
    runs: Mapping[str, Tree] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """A row minus another, over the seeds that they share."""

    of: str  # keys of rows
    minus: str
    title: str


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table file, checked."""

    title: str
    pipeline: str  # "" where runs are selected
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    published: Mapping[tuple[str, str], Published]  # by titles of row and column
    published_source: str
    pipelines: tuple[str, ...] = ()  # that fill it: shipped names or paths
    runs: Mapping[str, Tree] = field(default_factory=dict)  # what all cells have in common
    flags: Mapping[str, str] = field(default_factory=dict)  # footnote by name
    equal: tuple[str, ...] = ()  # facts: rows that differ in one are not ranked against each other
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""  # of a shipped one, else its path

    @property
    def sources(self) -> tuple[str, ...]:
        """The pipelines whose runs are in it."""
        return (self.pipeline,) if self.pipeline else self.pipelines

    def selector(self, row: Row, column: Column) -> dict[str, Tree]:
        """Return what the runs of a cell have, value by path."""
        return {**self.runs, **row.runs, **column.runs}


def shipped() -> dict[str, Path]:
    """Return the tables that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def default(pipeline: PipelineSpec) -> TableSpec:
    """Return the table of a pipeline that names none: its arms without their seeds, all metrics of all its stages."""
    rows: dict[str, Row] = {}
    for arm in pipeline.arms:
        labels = {axis: label for axis, label in arm.labels.items() if axis != SEED}
        title = " ".join(labels.values()) or pipeline.name
        rows.setdefault(title, Row(title, labels, title))
    columns = {
        (name, metric.name): Column(
            f"{name} {metric.name}", name, metric.name, metric.better, 1 if metric.unit == "%" else 3
        )
        for arm in pipeline.arms
        for name, stage in arm.stages.items()
        for metric in jobs.metrics(stage.kind, stage.params)
    }
    return TableSpec(pipeline.title, pipeline.name, tuple(rows.values()), tuple(columns.values()), {}, "")
