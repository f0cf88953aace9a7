"""Which runs a name means for MLflow's page that compares runs: of one column of a table, or of a sweep's trials.

a table             the runs in the cells of a column; the first column that fills most cells, or the one named
a sweep             its finished trials
a pipeline, a run   the runs of one stage of its latest submission: `linear` where it has one, or the one named
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from orchestration import connection, naming
from orchestration.errors import NotFound, did_you_mean
from orchestration.records import Submission
from orchestration.table import read as table_read
from orchestration.table import spec as table_spec
from orchestration.table.cell import SHORT
from orchestration.table.collect import collect
from orchestration.tracking import Store

MOST = 100  # runs on the page that compares: it asks for each by itself, and no longer shows which line is which
FIRST = "linear"  # of a submission's stages


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs to be shown beside each other."""

    what: str  # in words
    run_ids: tuple[str, ...]
    others: tuple[str, ...] = ()  # what else the name has: columns, stages


def find(store: Store, name: str, column: str | None) -> Comparison:
    """Return what `name` means, newest submission or sweep first.

    Raises: NotFound when it means nothing, has no such column, or no finished run.
    """
    if name in table_spec.shipped() or name.endswith((".yaml", ".yml")):
        return _of_table(store, name, column)
    sweeps = [sweep for sweep in store.sweeps() if sweep.pipeline == name]
    if sweeps:
        return _of_sweep(store, sweeps[0], column)
    is_word = name.translate(str.maketrans("", "", "-_.")).isalnum()
    if is_word and (found := store.submissions(name, newest=1)):
        return _of_submission(store, found[0], column)
    run_id = _run(store, name)
    if submission := store.submission(run_id):
        return _of_submission(store, submission, column)
    if sweep := next((each for each in store.sweeps() if each.run_id == run_id), None):
        return _of_sweep(store, sweep, column)
    raise NotFound(f"run {run_id[:SHORT]} is a single stage", hint="name a submission, a sweep, or a table")


def fragment(experiment: str, run_ids: Sequence[str]) -> str:
    """Return the address of the page within MLflow's: runs beside each other, or charts of all where they are many.

    >>> fragment("1", ["ab", "cd"])
    '#/compare-runs?runs=%5B%22ab%22,%22cd%22%5D&experiments=%5B%221%22%5D&workflowType=machine_learning'
    """
    if len(run_ids) <= MOST:
        runs, experiments = (quote(json.dumps(ids, separators=(",", ":")), safe=",") for ids in (run_ids, [experiment]))
        return f"#/compare-runs?runs={runs}&experiments={experiments}&{naming.MACHINE_LEARNING}"
    said = f"attributes.run_id IN ({', '.join(map(repr, run_ids))})"
    return f"#/experiments/{experiment}/runs?searchFilter={quote(said)}&compareRunsMode=CHART&{naming.MACHINE_LEARNING}"


def _of_table(store: Store, name: str, column: str | None) -> Comparison:
    table = collect(table_read.load(name), store)
    runs = {head.title: [run for row in table.cells for run in row[j].run_ids] for j, head in enumerate(table.columns)}
    filled = {head.title: sum(bool(row[j].run_ids) for row in table.cells) for j, head in enumerate(table.columns)}
    hint = f"leoclr-ops plan --table {name}"
    return _chosen(f"table {name}", runs, column, best=max(filled, key=lambda title: filled[title]), hint=hint)


def _of_submission(store: Store, submission: Submission, column: str | None) -> Comparison:
    runs = store.stage_runs(run for stages in submission.arms.values() for run in stages.values())
    by_stage: dict[str, list[str]] = {}
    for stages in submission.arms.values():
        for stage, run_id in stages.items():
            ended = run_id in runs and runs[run_id].status == "FINISHED"
            by_stage.setdefault(stage, []).extend([run_id] if ended else [])
    what = f"run {submission.run_id[:SHORT]} of {submission.pipeline}"
    best = FIRST if by_stage.get(FIRST) else max(by_stage, key=lambda stage: len(by_stage[stage]), default="")
    return _chosen(what, by_stage, column, best=best, hint=f"leoclr-ops status {submission.run_id[:SHORT]}")


def _of_sweep(store: Store, sweep: Submission, column: str | None) -> Comparison:
    runs = {"trials": [trial.run_id for trial in store.trials(sweep.run_id) if trial.status == "FINISHED"]}
    return _chosen(f"sweep {sweep.pipeline}", runs, column, best="trials", hint=f"leoclr-ops status {sweep.pipeline}")


def _chosen(what: str, runs: Mapping[str, Sequence[str]], column: str | None, *, best: str, hint: str) -> Comparison:
    if column is not None and column not in runs:
        raise NotFound(f"{what} has no column {column!r}", place="--column", hint=did_you_mean(column, runs))
    chosen = column or best
    found = tuple(dict.fromkeys(runs.get(chosen, ())))
    if not found:
        raise NotFound(f"no finished run is behind {what}" + (f", {chosen}" if chosen else ""), hint=hint)
    others = tuple(title for title, ids in runs.items() if ids and title != chosen)
    return Comparison(f"{what}, {chosen}: {len(found)} runs", found, others)


def _run(store: Store, name: str) -> str:
    try:
        return store.find(name)
    except NotFound as error:
        known = [*table_spec.shipped(), *(sweep.pipeline for sweep in store.sweeps())]
        hint = did_you_mean(name, known) or "`leoclr-ops status` lists what ran"
        fact = f"`{name}` is no table, sweep, pipeline or run of this store"
        raise NotFound(fact, place=connection.without_secrets(store.uri), hint=hint) from error
