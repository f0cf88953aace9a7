"""What goes into a report: the table, arms and runs of a submission or a sweep, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jobs
from orchestration.errors import LeoclrOpsError, NotFound, did_you_mean
from orchestration.records import StageRun, Submission
from orchestration.report.explain import finals
from orchestration.report.origin import origin
from orchestration.storage import Home
from orchestration.sweep import ledger as sweep_ledger
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep import view as sweep_view
from orchestration.sweep.look import is_driven
from orchestration.sweep.result import SweepResult
from orchestration.table import read as table_read
from orchestration.table import spec as table_spec
from orchestration.table.collect import SHORT, Table, collect
from orchestration.table.spec import SEED, Column, Row, TableSpec
from orchestration.tracking import PROVENANCE, Store

SWEEP = f"{PROVENANCE}/sweep.yaml"


@dataclass(frozen=True, slots=True)
class Group:
    """Arms that differ in their seeds alone."""

    title: str
    labels: Mapping[str, str]  # by axis, without the seed
    runs: Mapping[str, tuple[StageRun, ...]]  # by stage, in the order of the arms

    def every(self) -> Iterator[StageRun]:
        """Yield all runs."""
        for runs in self.runs.values():
            yield from runs


@dataclass(frozen=True, slots=True)
class Chapter:
    """One submission, or one sweep."""

    name: str  # of its pipeline, or its own
    title: str
    run_id: str  # of the parent; "" where a sweep has none yet
    status: str
    host: str
    began_ms: int
    groups: tuple[Group, ...]
    table: Table | None = None  # None: there is none, `sweep` says it all, or `notes` say why
    sweep: SweepResult | None = None
    trials: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)  # runs by stage, by trial's run
    notes: tuple[str, ...] = ()

    def every(self) -> dict[str, StageRun]:
        """Return all runs by id, each once."""
        return {run.run_id: run for group in self.groups for run in group.every()}


def chapters(store: Store, home: Home, name: str | None, *, everything: bool = False) -> list[Chapter]:
    """Return what a report is on: one submission or sweep, or with `everything` the latest of each.

    `name` is a pipeline, a sweep, or the run of a submission; the latest submission without it.
    Raises: NotFound when nothing is called so, or nothing was submitted.
    """
    if everything:
        found = [of_submission(store, each) for each in _latest(store)]
        found += [of_sweep(store, home, each) for each in _sweeps(home)]
    elif name is not None and name in _sweeps(home):
        return [of_sweep(store, home, name)]
    else:
        found = [of_submission(store, _submission(store, home, name))]
    if not found:
        raise NotFound("nothing was submitted yet", place=store.uri, hint="`leoclr-ops submit` begins")
    return found


def of_submission(store: Store, submission: Submission) -> Chapter:
    """Return the chapter of a submission."""
    ids = {run_id for stages in submission.arms.values() for run_id in stages.values()}
    runs = store.stage_runs(sorted(ids))
    table, notes = None, []
    try:
        spec = _table(origin(store, submission.run_id).table, submission, runs)
        table = collect(spec, store, submission.run_id)
    except LeoclrOpsError as error:  # a table file that is gone must not hide the rest
        notes.append(f"no table: {error}")
    return Chapter(
        name=submission.pipeline,
        title=submission.title or submission.pipeline,
        run_id=submission.run_id,
        status=submission.status.lower(),
        host=submission.host,
        began_ms=submission.started_ms,
        groups=tuple(_groups(submission, runs, table)),
        table=table,
        notes=tuple(notes),
    )


def of_sweep(store: Store, home: Home, name: str) -> Chapter:
    """Return the chapter of a sweep. Raises: SpecError, NotFound when its file is gone."""
    ledger = sweep_ledger.Ledger(sweep_ledger.folder_of(home, name))
    parent = next((each for each in store.sweeps() if each.pipeline == name), None)
    result = sweep_view.result(_sweep(store, name, parent), ledger.entries, alive=is_driven(ledger))
    trials = [each for each in (store.submission(t.run_id) for t in result.trials if t.run_id) if each]
    runs = store.stage_runs(sorted({run for each in trials for arm in each.arms.values() for run in arm.values()}))
    groups: dict[str, Group] = {}
    labels = {trial.run_id: {k: v for k, v in trial.labels.items() if k != SEED} for trial in result.trials}
    for trial in trials:
        for group in _groups(trial, runs, None, labels.get(trial.run_id)):
            groups[group.title] = _merged(groups[group.title], group) if group.title in groups else group
    return Chapter(
        name=name,
        title=result.title,
        run_id=parent.run_id if parent else "",
        status=parent.status.lower() if parent else "unknown",
        host=parent.host if parent else "unknown",
        began_ms=parent.started_ms if parent else 0,
        groups=tuple(groups.values()),
        sweep=result,
        trials={each.run_id: _by_stage(each) for each in trials},
    )


def _by_stage(submission: Submission) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stages in submission.arms.values():
        for stage, run_id in stages.items():
            found.setdefault(stage, []).append(run_id)
    return found


def _latest(store: Store) -> list[Submission]:
    """Return the latest submission of each pipeline that has a run, the last continued first; trials are a sweep's."""
    found: dict[str, Submission] = {}
    for each in store.submissions():
        if not each.sweep and any(each.arms.values()):
            found.setdefault(each.pipeline, each)
    return list(found.values())


def _sweeps(home: Home) -> list[str]:
    root = home.path / "sweeps"
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _submission(store: Store, home: Home, name: str | None) -> Submission:
    """Return the submission that a word means. Raises: NotFound."""
    latest = _latest(store)
    if name is None:
        if not latest:
            raise NotFound("nothing was submitted yet", place=store.uri, hint="`leoclr-ops submit` begins")
        return latest[0]
    if found := next((each for each in latest if each.pipeline == name), None):
        return found
    try:
        run_id = store.find(name)
    except NotFound as error:
        known = [*(each.pipeline for each in latest), *_sweeps(home)]
        fact = f"no pipeline, sweep or submission that ran here is called `{name}`"
        raise NotFound(fact, place=store.uri, hint=did_you_mean(name, known)) from error
    if submission := store.submission(run_id):
        return submission
    if sweep := next((each for each in store.sweeps() if each.run_id == run_id), None):
        raise NotFound("it is a sweep", place=f"run {name}", hint=f"leoclr-ops report {sweep.pipeline}")
    raise NotFound("it is no submission", place=f"run {name}", hint=f"leoclr-ops explain {run_id[:SHORT]}")


def _table(name: str, submission: Submission, runs: Mapping[str, StageRun]) -> TableSpec:
    """Return the table that a submission names, if it is a shipped one; else one of all that its stages end with."""
    if name in table_spec.shipped():
        return table_read.load(name)
    rows: dict[str, Row] = {}
    for arm, labels in submission.arm_labels.items():
        kept = {axis: label for axis, label in labels.items() if axis != SEED}
        title = " ".join(kept.values()) or arm or submission.pipeline
        rows.setdefault(title, Row(title, kept, title))
    columns: dict[tuple[str, str], Column] = {}
    for run in sorted(runs.values(), key=lambda run: list(jobs.STAGES).index(run.kind)):
        for metric in jobs.module(run.kind).METRICS:
            if metric.name in finals(run):
                decimals = 1 if metric.unit == "%" else 3
                title = f"{run.stage} {metric.name}"
                column = Column(title, run.stage, metric.name, metric.better, decimals)
                columns.setdefault((run.stage, metric.name), column)
    return TableSpec(submission.title, submission.pipeline, tuple(rows.values()), tuple(columns.values()), {}, "")


def _groups(
    submission: Submission, runs: Mapping[str, StageRun], table: Table | None, said: Mapping[str, str] | None = None
) -> Iterator[Group]:
    """Yield the arms of a submission without their seeds, called as the rows of its table are; `said`: other labels."""
    found: dict[str, tuple[dict[str, str], dict[str, list[StageRun]]]] = {}
    for arm, labels in submission.arm_labels.items():
        kept = dict(said) if said else {axis: label for axis, label in labels.items() if axis != SEED}
        title = _title(kept, table) or submission.pipeline
        stages = found.setdefault(title, (kept, {}))[1]
        for stage, run_id in submission.arms.get(arm, {}).items():
            if run_id in runs and runs[run_id] not in stages.setdefault(stage, []):
                stages[stage].append(runs[run_id])
    for title, (kept, stages) in found.items():
        yield Group(title, kept, {stage: tuple(each) for stage, each in _in_order(stages)})


def _in_order(stages: Mapping[str, list[StageRun]]) -> list[tuple[str, list[StageRun]]]:
    """Return stages in the order of their kinds: a submission does not tell theirs."""
    kinds = list(jobs.STAGES)
    return sorted(stages.items(), key=lambda pair: kinds.index(pair[1][0].kind) if pair[1] else len(kinds))


def _title(labels: Mapping[str, str], table: Table | None) -> str:
    rows: Sequence[Row] = table.spec.rows if table and table.spec and table.spec.pipeline else ()
    exact = (row.title for row in rows if row.labels and dict(row.labels) == dict(labels))
    words = [label if axis == "method" else f"{axis.rpartition('.')[2]}={label}" for axis, label in labels.items()]
    return next(exact, " ".join(words))


def _merged(one: Group, other: Group) -> Group:
    stages = dict.fromkeys((*one.runs, *other.runs))
    both = {name: (*one.runs.get(name, ()), *other.runs.get(name, ())) for name in stages}
    return Group(
        one.title, one.labels, {name: tuple({r.run_id: r for r in each}.values()) for name, each in both.items()}
    )


def _sweep(store: Store, name: str, parent: Submission | None) -> sweep_spec.SweepSpec:
    """Return a sweep as it was recorded; the shipped one of its name where it was not."""
    text = store.text(parent.run_id, SWEEP) if parent else None
    return sweep_spec.recorded(text, name) if text else sweep_spec.load(name)
