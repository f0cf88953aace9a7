"""Tracked runs become a table: those of one submission, or all that a file's rows and columns select."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestration.errors import NotFound
from orchestration.records import StageRun, Submission
from orchestration.table import runs as table_runs
from orchestration.table.cell import SHORT as SHORT
from orchestration.table.cell import Cell as Cell
from orchestration.table.cell import Table as Table
from orchestration.table.cell import assemble, cell
from orchestration.table.spec import Column, Row, TableSpec


class Runs(table_runs.Runs, Protocol):
    """What a table asks of the tracking store."""

    def submissions(self, pipeline: str | None = None, *, newest: int | None = None) -> list[Submission]: ...

    def submission(self, run_id: str) -> Submission | None: ...

    def stage_runs(self, run_ids: Sequence[str]) -> dict[str, StageRun]: ...

    def find(self, reference: str) -> str: ...


def collect(spec: TableSpec, store: Runs | None, submission: str | None = None) -> Table:
    """Return a table's numbers: of the latest submission of the spec's pipeline, or the one whose run id begins so.

    Where the spec selects runs, those of all submissions count, or of the one that is named. A cell takes only finished
    runs, reused ones included. Arms that have none leave their reason. `store` is None where nothing was submitted yet.

    Raises:
        NotFound: there is no such submission.
    """
    if not spec.pipeline:
        only = {*_submission(spec, store, submission).run_ids} if store and submission else None
        return table_runs.collect(spec, store or table_runs.NoRuns(), only)
    if store is None:
        raise _never(spec)
    source = _submission(spec, store, submission)
    runs = store.stage_runs(sorted(source.run_ids))
    rows = [[_cell(spec, row, column, source, runs) for column in spec.columns] for row in spec.rows]
    return assemble(spec, rows, source=(source.pipeline, source.run_id, source.status))


def _never(spec: TableSpec) -> NotFound:
    hint = f"leoclr-ops submit {spec.pipeline}"
    return NotFound(f"the pipeline `{spec.pipeline}` was never submitted", hint=hint)


def _submission(spec: TableSpec, store: Runs, reference: str | None) -> Submission:
    if reference is None:
        found = store.submissions(spec.pipeline, newest=1)
        if not found:
            raise _never(spec)
        return found[0]
    run_id = store.find(reference)
    if found_by_id := store.submission(run_id):
        return found_by_id
    parent = store.stage_runs([run_id])[run_id].parent
    raise NotFound(f"run {run_id[:SHORT]} is a stage, not a submission", hint=f"its submission is {parent[:SHORT]}")


def _cell(spec: TableSpec, row: Row, column: Column, source: Submission, runs: Mapping[str, StageRun]) -> Cell:
    published = spec.published.get((row.title, column.title))
    found = [
        (seed_of(labels, row), runs.get(source.arms[arm].get(column.stage, "")))
        for arm, labels in source.arm_labels.items()
        if row.labels.items() <= labels.items()
    ]
    if not found:
        return Cell(None, None, 0, (), published, "the submission has no such arm")
    return cell(found, column, published)


def seed_of(labels: Mapping[str, str], row: Row) -> str:
    """Return the labels of an arm that its row leaves open: arms of two rows that agree in these are a pair."""
    return json.dumps({axis: label for axis, label in labels.items() if axis not in row.labels}, sort_keys=True)
