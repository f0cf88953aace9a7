"""What a number stands on: data, pre-training, checkpoint, protocol, seeds, code, machine, time; how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobs.contract import NO_DATA
from jobs.inputs import BACKBONE
from orchestration import records
from orchestration.document import show
from orchestration.errors import NotFound, StoreError, did_you_mean
from orchestration.progress import duration
from orchestration.records import StageRun, Submission
from orchestration.report.origin import Origin, key, origin
from orchestration.report.reproduce import Recipe, pipeline, recipe
from orchestration.table import verify
from orchestration.table.cell import SHORT, Table
from orchestration.table.chain import Chain
from orchestration.tracking import Store

PRETRAIN = "pretrain"
SOUND = "every file has the sha256 of its manifest, every fingerprint is that of what it records"
_SHOWN = ("backbone", "width", "stem", "image_size", "epochs", "batch", "lr")  # of a pre-training, in this order


@dataclass(frozen=True, slots=True)
class Explained:
    """One run."""

    run: StageRun
    title: str
    numbers: Mapping[str, float]  # what it ended with
    facts: Mapping[str, str]  # in words, by name, in the order of the chain
    recipe: Recipe
    defects: tuple[str, ...]  # what is wrong with it, or what it stands on
    page: str  # address in MLflow's pages; "" where no server shows them


class Explainer:
    """Explains runs of one store; what several share is read once, those that are named here in few questions."""

    def __init__(self, store: Store, run_ids: Iterable[str] = ()) -> None:
        self.chain = Chain()
        self.chain.read(store, run_ids)
        self._store = store
        self._origins: dict[str, Origin] = {}
        self._submissions: dict[str, Submission | None] = {}
        self._defects: dict[str, list[str]] = {}

    def explain(self, run_id: str, *, verified: bool = True) -> Explained:
        """Return what a run is made of; `verified` hashes all files.

        Raises: NotFound when it is no run of a stage.
        """
        run = self._run(run_id)
        runs = list(self.chain.walk([run_id]))
        defects = [f"{_name(each)}: {fact}" for each in runs for fact in self._defects_of(each)] if verified else []
        facts = self._facts(run, runs)
        if verified:
            facts["verified"] = "; ".join(defects) or SOUND
        return Explained(
            run=run,
            title=f"{run.stage} {run.arm}".strip(),
            numbers=finals(run),
            facts=facts,
            recipe=recipe(run, self.chain, self._origin(run.parent)),
            defects=tuple(defects),
            page=self._store.page(run_id),
        )

    def pipeline(self, run_id: str) -> str:
        """Return a pipeline file that makes a run again. Raises: NotFound when it is no run of a stage."""
        run = self._run(run_id)
        return pipeline(run, self.chain, self._origin(run.parent))

    def _run(self, run_id: str) -> StageRun:
        self.chain.read(self._store, [run_id])
        if run_id not in self.chain.runs:
            raise _no_stage(self._store, run_id)
        return self.chain.runs[run_id]

    def _origin(self, submission: str) -> Origin:
        if submission not in self._origins:
            self._origins[submission] = origin(self._store, submission)
        return self._origins[submission]

    def _submission(self, run_id: str) -> Submission | None:
        if run_id not in self._submissions:
            self._submissions[run_id] = self._store.submission(run_id)
        return self._submissions[run_id]

    def _defects_of(self, run: StageRun) -> list[str]:
        if run.run_id not in self._defects:
            self._defects[run.run_id] = list(verify.facts(run, self.chain, self._store))
        return self._defects[run.run_id]

    def _facts(self, run: StageRun, runs: list[StageRun]) -> dict[str, str]:
        """Return the chain of a run in words, in the order in which it came about."""
        pretrain = next((each for each in runs if each.kind == PRETRAIN), None)
        found = {"data": _data(run)}
        if pretrain:
            found["pre-training"] = f"run {pretrain.run_id[:SHORT]}: {trained(pretrain)}"
            if pretrain is not run and _data(pretrain) != _data(run):
                found["pre-training data"] = _data(pretrain)
            found["checkpoint"] = self._checkpoint(pretrain)
        if protocol := run.tags.get(records.PROTOCOL):
            found["protocol"] = protocol
        found["seeds"] = ", ".join(f"{each.stage} {each.params.get('seed')}" for each in reversed(runs))
        version = run.tags[records.RESULTS_VERSION]
        found["code"] = f"commit {run.tags.get(records.GIT_COMMIT, 'unknown')}, results version {version}"
        found["versions"] = ", ".join(f"{name} {value}" for name, value in _versions(run))
        found["machine"] = self._machine(run, runs)
        found["time"] = " + ".join(f"{duration(seconds(each))} {each.stage}" for each in reversed(runs))
        found["fingerprint"] = " -> ".join(f"{each.stage} {each.tags[records.FINGERPRINT]}" for each in reversed(runs))
        submission = self._submission(run.parent)
        found["submission"] = f"{run.parent[:SHORT]} of {submission.pipeline if submission else 'unknown'}"
        return found

    def _checkpoint(self, run: StageRun) -> str:
        try:
            return f"{BACKBONE}, sha256 {self._store.digests(run.run_id).get(BACKBONE, 'none')}"
        except StoreError as error:
            return error.fact

    def _machine(self, run: StageRun, runs: Sequence[StageRun]) -> str:
        submission = self._submission(run.parent)
        said = [submission.host if submission else "unknown"]
        for each in reversed(runs):
            labels = key(json.loads(each.tags[records.LABELS]))
            resources = self._origin(each.parent).resources.get((labels, each.stage))
            workers = resources.get("workers") if isinstance(resources, dict) else None
            said += [f"{each.stage} {workers} worker{'' if workers == 1 else 's'}"] if workers else []
        return ", ".join(said)


def find_cell(table: Table, row: str, column: str) -> tuple[int, int]:
    """Return where the cell of a table is, given its row by title or key, and its column by title.

    Raises: NotFound when there is no such row or column, or no run is in the cell.
    """
    keys = {table.row(i).key: title for i, title in enumerate(table.rows) if table.row(i).key}
    titles = [each.title for each in table.columns]
    i = _place("row", keys.get(row, row), table.rows, table.title)
    j = _place("column", column, titles, table.title)
    if not table.cells[i][j].run_ids:
        where, hint = f"{table.rows[i]}, {titles[j]}", "`leoclr-ops plan --table` says what would fill it"
        raise NotFound(f"no run is in this cell: {table.cells[i][j].missing}", place=where, hint=hint)
    return i, j


def finals(run: StageRun) -> dict[str, float]:
    """Return what a run ended with, the first metric of its kind first."""
    import jobs

    names = [metric.name for metric in jobs.module(run.kind).METRICS]
    return {name: run.metrics[name] for name in names if name in run.metrics}


def trained(run: StageRun) -> str:
    """Return a pre-training in words."""
    settings = run.params.get("settings") or {}
    if "as_method" in settings:
        return f"{settings['as_method']}, imported"
    facts = [f"{name.replace('_', ' ')} {run.params[name]}" for name in _SHOWN if name in run.params]
    return (
        f"{run.params.get('method')} on {run.params.get('dataset')}: {', '.join(facts)}, seed {run.params.get('seed')}"
    )


def seconds(run: StageRun) -> float:
    """Return how long a run took, all attempts together."""
    return float(run.tags.get(records.SECONDS, 0.0))


def shared(runs: Iterable[Explained]) -> dict[str, str]:
    """Return the facts that all of several runs have."""
    first, *others = [each.facts for each in runs]
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in others)}


def _data(run: StageRun) -> str:
    name = str(run.params.get("dataset", NO_DATA))
    return f"{name}, digest {run.tags[records.DIGEST]}" if name else "none"


def _versions(run: StageRun) -> list[tuple[str, str]]:
    found = [(key, value) for key, value in run.tags.items() if key.startswith(records.VERSION)]
    return sorted((key.removeprefix(records.VERSION), value) for key, value in found)


def _name(run: StageRun) -> str:
    return f"run {run.run_id[:SHORT]} ({f'{run.stage} {run.arm}'.strip()})"


def _place(what: str, wanted: str, titles: Sequence[str], table: str) -> int:
    by_name = {title.casefold(): i for i, title in enumerate(titles)}
    if wanted.casefold() not in by_name:
        raise NotFound(f"no {what} is called {show(wanted)}", place=table, hint=did_you_mean(wanted, titles))
    return by_name[wanted.casefold()]


def _no_stage(store: Store, run_id: str) -> NotFound:
    if submission := store.submission(run_id):
        stages = [run for arm in submission.arms.values() for run in arm.values()]
        hint = f"name one of its stages, such as {stages[0][:SHORT]}" if stages else "it has none"
        fact = "it is a submission, and a number is a stage's"
        return NotFound(fact, place=f"run {run_id[:SHORT]}", hint=f"{hint}; or `leoclr-ops report {run_id[:SHORT]}`")
    return NotFound("it is no run of a stage", place=f"run {run_id[:SHORT]}", hint="`leoclr-ops status` lists them")
