"""What the tracking store remembers: runs are asked for here, and come back as plain values.

A store in a SQLite file of this machine is read directly (`rows`), any other through MLflow's search (`query`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import connection, query, records, rows
from orchestration.artifacts import Artifacts, local
from orchestration.connection import Connection
from orchestration.errors import NotFound, StoreError
from orchestration.plan import PastRun
from orchestration.query import Query
from orchestration.records import RawRun, StageRun, Submission
from orchestration.storage import Home

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

HISTORY = 200  # runs whose times and params a plan compares with; through MLflow's search each costs 2 ms
UNCHECKED = "not looked at"  # the artifact of a run that no plan would reuse
STAGE = {records.ROLE: "stage"}


class Finder:
    """The reading half of a store; all methods raise StoreError where it does not answer."""

    def __init__(self, home: Home, link: Connection, *, experiment_id: str, artifact_root: str) -> None:
        self._link, self._experiment = link, experiment_id
        self._file = rows.file_of(link.uri)
        self._artifacts = Artifacts(home, root=artifact_root, download=self._download)

    @property
    def _client(self) -> MlflowClient:
        return self._link.client

    @property
    def uri(self) -> str:
        """Where the runs are, without user name and password."""
        return connection.without_secrets(self._link.uri)

    @property
    def experiment(self) -> str:
        """The id of our experiment in the store."""
        return self._experiment

    def ask(self) -> None:
        """Reach the store through MLflow, as all writing does. Raises: StoreError."""
        self._link.experiment()

    def past_runs(self, fingerprint: str | None = None) -> list[PastRun]:
        """Return every stage run, or those of one fingerprint, newest first; artifacts of finished ones are checked.

        Artifacts on this machine are hashed, once each; those of a remote store are checked when they are fetched.
        """
        named = None if fingerprint is None else (fingerprint,)
        return self._check(self._find(Query(tags=STAGE, fingerprints=named)))

    def past_of(self, fingerprints: Iterable[str], pipeline: str) -> list[PastRun]:
        """Return what a plan has to know of the past: all runs of its fingerprints, artifacts checked, newest first.

        Unless each of these is finished, the newest runs of the same pipeline follow, then the newest of all: from them
        come estimates and the reasons why something runs again. Their artifacts are not looked at.
        """
        wanted = tuple(dict.fromkeys(fingerprints))
        own = self._own(wanted, pipeline)
        if {run.fingerprint for run in own if run.reusable} == set(wanted):
            return own
        tags = STAGE | {records.PIPELINE: pipeline}
        found = {raw.run_id: raw for raw in self._find(Query(tags=tags, newest=HISTORY))}
        if len(found) < HISTORY:
            found |= {raw.run_id: raw for raw in self._find(Query(tags=STAGE, newest=HISTORY))}
        known = {run.run_id for run in own}
        return own + [records.past_run(raw, UNCHECKED) for raw in found.values() if raw.run_id not in known]

    def _own(self, fingerprints: tuple[str, ...], pipeline: str) -> list[PastRun]:
        """Return the runs of fingerprints; of those that the newest submission has done, through MLflow, one each.

        There a fingerprint is a search of its own, which looks at all runs, and a submission with its runs are two.
        """
        done: list[PastRun] = []
        latest = self.submissions(pipeline, newest=1) if self._file is None else []
        if latest:
            known = self._find(Query(tags=STAGE, run_ids=latest[0].run_ids))
            wanted = self._check([raw for raw in known if raw.tags.get(records.FINGERPRINT) in fingerprints])
            done = [run for run in wanted if run.reusable]
        rest = tuple(each for each in fingerprints if each not in {run.fingerprint for run in done})
        others = self._check(self._find(Query(tags=STAGE, fingerprints=rest)))
        return sorted(done + others, key=lambda run: run.started_ms, reverse=True)

    def _check(self, raws: Sequence[RawRun]) -> list[PastRun]:
        problems = self._artifacts.problems(raw for raw in raws if raw.status == "FINISHED")
        return [records.past_run(raw, problems.get(raw.run_id, "")) for raw in raws]

    def submissions(
        self, pipeline: str | None = None, *, newest: int | None = None, running: bool = False
    ) -> list[Submission]:
        """Return the submissions, of one pipeline if named, the last continued first; no more than `newest`.

        With `running`, those that the store believes to be running.
        """
        tags = {records.ROLE: "submission"} | ({} if pipeline is None else {records.PIPELINE: pipeline})
        asked = Query(tags=tags, newest=newest, by_attempt=True, status="RUNNING" if running else "")
        return [records.submission(raw) for raw in self._find(asked)]

    def submission(self, run_id: str) -> Submission | None:
        """Return the submission of this id; None where it is none."""
        found = self._find(Query(tags={records.ROLE: "submission"}, run_ids=(run_id,)))
        return records.submission(found[0]) if found else None

    def of_job(self, job: str) -> Submission | None:
        """Return the submission, or sweep, that was sent to a cluster as this job; the last one. Raises: StoreError."""
        found = self._find(Query(tags={records.JOB: job}, newest=1, by_attempt=True))
        return records.submission(found[0]) if found else None

    def sweep(self, run_id: str) -> Submission | None:
        """Return the sweep of this id, as `sweeps` has it; None where it is none."""
        found = self._find(Query(tags={records.ROLE: "sweep"}, run_ids=(run_id,)))
        return records.submission(found[0]) if found else None

    def sweeps(self) -> list[Submission]:
        """Return all sweeps, each as the submission without arms that its run is, the last continued first."""
        return [records.submission(raw) for raw in self._find(Query(tags={records.ROLE: "sweep"}, by_attempt=True))]

    def trials(self, sweep: str) -> list[Submission]:
        """Return the submissions that are trials of the sweep with this run, the last continued first."""
        tags = {records.ROLE: "submission", records.PARENT: sweep}
        return [records.submission(raw) for raw in self._find(Query(tags=tags, by_attempt=True))]

    def stage_runs(self, run_ids: Iterable[str]) -> dict[str, StageRun]:
        """Return stage runs by id; ids that are not of a stage are left out."""
        found = self._find(Query(tags=STAGE, run_ids=tuple(dict.fromkeys(run_ids)), metrics=True))
        return {raw.run_id: records.stage_run(raw) for raw in found}

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]:
        """Return every run of a stage kind, or those on one of these data sets, newest first."""
        named = None if datasets is None else tuple(datasets)
        asked = Query(tags=STAGE | {records.KIND: kind}, datasets=named, metrics=True)
        return [records.stage_run(raw) for raw in self._find(asked)]

    def stages_of(self, fingerprints: Iterable[str]) -> list[StageRun]:
        """Return every run of these fingerprints, newest first."""
        asked = Query(tags=STAGE, fingerprints=tuple(dict.fromkeys(fingerprints)), metrics=True)
        return [records.stage_run(raw) for raw in self._find(asked)]

    def running(self) -> tuple[list[Submission], list[StageRun]]:
        """Return what the store believes to be running as of one moment: submissions, sweeps among them, and stages."""
        raws = self._find(Query(status="RUNNING", metrics=True))
        owned = ("submission", "sweep")
        submissions = [records.submission(raw) for raw in raws if raw.tags.get(records.ROLE) in owned]
        return submissions, [records.stage_run(raw) for raw in raws if raw.tags.get(records.ROLE) == "stage"]

    def find(self, reference: str) -> str:
        """Return the id of the run that begins with `reference`.

        Raises:
            NotFound: no run or several begin so, or it is shorter than 4 characters.
        """
        if len(reference) < 4 or not reference.isalnum():
            raise NotFound(f"`{reference}` is no run id", hint="give at least its first 4 characters")
        found = [raw.run_id for raw in self._find(Query(begins=reference.lower()))]
        if not found:
            raise NotFound(f"no run begins with `{reference}`", place=self.uri, hint="see `leoclr-ops status`")
        if len(found) > 1:
            names = ", ".join(sorted(found)[:5])
            raise NotFound(f"{len(found)} runs begin with `{reference}`", hint=f"give more of it: {names}")
        return found[0]

    def fetch(self, run_id: str, file: str) -> Path:
        """Return a path on this machine of a file of a finished stage, checked against its manifest.

        Raises:
            StoreError: the run has no such file, or the file is damaged.
        """
        return self._artifacts.fetch(self._get(run_id), file)

    def check(self, run_id: str) -> dict[str, Path]:
        """Return every file of a finished stage, each hashed now and found to be what its manifest says.

        Raises:
            StoreError: the run has no result, or a file of it is missing or damaged.
        """
        return self._artifacts.check(self._get(run_id))

    def tags(self, run_id: str) -> Mapping[str, str]:
        """Return the tags of a run. Raises: StoreError."""
        return self._get(run_id).tags

    def status(self, run_id: str) -> str:
        """Return what MLflow says of a run: RUNNING, or how it ended. Raises: StoreError."""
        return self._get(run_id).status

    def sizes(self, run_id: str, folder: str) -> dict[str, int]:
        """Return the bytes of each artifact in a folder of a run, by path; nothing where there is none."""
        with self._speaking():
            return {each.path: each.file_size or 0 for each in self._client.list_artifacts(run_id, folder)}

    @property
    def is_served(self) -> bool:
        """Whether the runs lie behind a server, where other machines see them too."""
        return self._link.uri.startswith(("http://", "https://"))

    def digests(self, run_id: str) -> dict[str, str]:
        """Return the sha256 of each file of a finished stage, as its manifest has it. Raises: StoreError."""
        return self._artifacts.digests(self._get(run_id))

    def text(self, run_id: str, file: str) -> str | None:
        """Return a text that was kept with a run, such as where a submission comes from; None where there is none."""
        raw, folder = self._get(run_id), file.rpartition("/")[0]  # "": a server names nothing in "." as we do
        if local(raw.artifact_uri) is None and file not in self.sizes(run_id, folder):
            return None
        return self._artifacts.text(raw, file)

    def history(self, run_ids: Iterable[str], key: str) -> dict[str, list[tuple[int, float]]]:
        """Return the curve of a metric as (step, value), in the order of the steps, by run; runs without it are out.

        Infinity is `records.MAX_VALUE`, as MLflow keeps it.
        """
        wanted = tuple(dict.fromkeys(run_ids))
        if self._file is None:
            return {run_id: curve for run_id in wanted if (curve := self._curve(run_id, key))}
        with self._speaking():
            return rows.history(self._file, wanted, key)

    def page(self, run_id: str) -> str:
        """Return the address of a run's page where a server shows it; "" for a store that is a file."""
        server = self.uri.rstrip("/")
        is_served = server.startswith(("http://", "https://"))
        return f"{server}/#/experiments/{self._experiment}/runs/{run_id}" if is_served else ""

    def _curve(self, run_id: str, key: str) -> list[tuple[int, float]]:
        with self._speaking():
            found = self._client.get_metric_history(run_id, key)
        return sorted((int(each.step), each.value) for each in found)

    def _get(self, run_id: str) -> RawRun:
        found = self._find(Query(run_ids=(run_id,)))
        if not found:
            raise StoreError(f"run {run_id} is not there, or was deleted", place=self.uri)
        return found[0]

    def _find(self, asked: Query) -> list[RawRun]:
        """Return the runs that a query asks for: from the SQLite file where that can be read, else from MLflow."""
        if self._file is None:
            return query.search(self._client, self._experiment, asked)
        with self._speaking():
            return rows.search(self._file, self._experiment, asked)

    def _speaking(self) -> AbstractContextManager[None]:
        return connection.speaking(self._link.uri)

    def _download(self, run_id: str, file: str, folder: Path) -> Path:
        with self._speaking():
            return Path(self._client.download_artifacts(run_id, file, str(folder)))
