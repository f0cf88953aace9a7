"""Runs: begin, log, end, find. With `connection` the only file that imports mlflow, when a store is opened: it is slow.

A submission is a parent run, each stage it runs a child. MLflow takes a killed run to be running for ever:
so that a run is finished is said by its status together with its manifest, and `reconcile` ends what nobody runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from leoclr import RESULTS_VERSION
from orchestration import connection, provenance, records
from orchestration.artifacts import Artifacts
from orchestration.errors import NotFound, StoreError
from orchestration.plan import PastRun, Plan, PlannedStage
from orchestration.records import Point, RawRun, StageRun, Submission
from orchestration.storage import MANIFEST, Home, inside, problem_of, read_manifest, safe_name, sha256

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PROVENANCE = "provenance"  # folder of the artifacts that tell where a submission comes from
PAGE = 1000  # runs a search request; MLflow allows 50,000, which would be one answer of some 100 MB
IDS_A_QUERY = 200  # in one `run_id IN (...)`: the filter stays under 8 kB


class Store:
    """The tracking store. Every method is one step to disk or network, and all raise StoreError where it fails."""

    def __init__(self, home: Home, client: MlflowClient, *, experiment_id: str, artifact_root: str) -> None:
        self._client, self._experiment = client, experiment_id
        self._artifacts = Artifacts(home, root=artifact_root, download=self._download)

    @classmethod
    def open(cls, home: Home, uri: str | None = None) -> Store:
        """Connect to `uri`, else $MLFLOW_TRACKING_URI, else the home's own SQLite file, which is created when missing.

        Raises:
            StoreError: nothing answers there, or it has no room for our experiment.
        """
        client, experiment_id, root = connection.connect(home, uri)
        return cls(home, client, experiment_id=experiment_id, artifact_root=root)

    @property
    def uri(self) -> str:
        """Where the runs are, without user name and password."""
        return connection.without_secrets(self._client.tracking_uri)

    def begin_submission(
        self, plan: Plan, *, title: str, spec_yaml: str, arm_labels: Mapping[str, Mapping[str, str]], resume: str | None
    ) -> str:
        """Open the parent run of a submission and return its id.

        `resume` names one to continue, unless it finished or was deleted since: then a new one begins.
        This process becomes its owner. `arm_labels`: label by axis, by arm name.
        """
        now_ms = _now_ms()
        owner = provenance.Owner.current()
        tags = records.submission_tags(plan, title=title, arm_labels=arm_labels, owner=owner, now_ms=now_ms)
        run_id = self._begin(tags, now_ms=now_ms, resume=resume)
        with self._speaking():
            self._client.log_text(run_id, spec_yaml, f"{PROVENANCE}/pipeline.yaml")
            self._client.log_text(run_id, provenance.environment(), f"{PROVENANCE}/environment.json")
        return run_id

    def begin_stage(
        self, planned: PlannedStage, *, parent: str, pipeline: str, arm_labels: Mapping[str, str], resume: str | None
    ) -> str:
        """Open the run of a stage under its submission and return its id.

        `resume` names one to continue, unless it finished or was deleted since: then a new one begins.

        Raises:
            StoreError: a param or tag is longer than MLflow keeps, or `resume` has other params.
        """
        tags = records.stage_tags(planned, parent=parent, pipeline=pipeline, arm_labels=arm_labels)
        params = records.flatten(planned.spec.params_json)
        from mlflow.entities import Param

        run_id = self._begin(tags, now_ms=_now_ms(), resume=resume)
        with self._speaking():  # params cannot be changed: a resumed run proves here that it has the same ones
            self._client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        return run_id

    def record_arm(self, parent: str, arm: str, stage: str, run_id: str) -> None:
        """Note on the submission that `run_id` serves `stage` of `arm`, whether it was begun for it or is reused."""
        self.set_tags(parent, records.run_entry(arm, stage, run_id))

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Record values; points that are recorded already add nothing."""
        from mlflow.entities import Metric

        with self._speaking():
            self._client.log_batch(run_id, metrics=[Metric(p.key, p.value, p.timestamp_ms, p.step) for p in points])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, all in one request up to 100."""
        from mlflow.entities import RunTag

        for key, value in tags.items():
            if len(value) > records.MAX_TAG:
                raise StoreError(f"{len(value)} characters are more than the {records.MAX_TAG} MLflow keeps", place=key)
        with self._speaking():
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def heartbeat(self, run_ids: Iterable[str]) -> None:
        """Say that the owner of these runs is alive."""
        for run_id in run_ids:
            self.set_tags(run_id, {records.HEARTBEAT_MS: str(_now_ms())})

    def finish_stage(self, run_id: str, *, metrics: Mapping[str, float], result: Path, ended_ms: int) -> None:
        """Upload a stage's result, its manifest last, then record what it ended with, then call it finished.

        Stopped anywhere in between, it can be called again. `result` holds a manifest and the files it names.

        Raises:
            StoreError: a file of the result is not what the manifest says.
        """
        digests = read_manifest(result / MANIFEST)
        if problem := problem_of(result, digests):
            raise StoreError(f"the result is {problem}", place=str(result))
        with self._speaking():
            for file in (*digests, MANIFEST):
                folder = str(PurePosixPath(file).parent)
                self._client.log_artifact(run_id, str(inside(result, file)), None if folder == "." else folder)
        self.log_points(run_id, [Point(records.FINAL + key, value, 0, ended_ms) for key, value in metrics.items()])
        self._end(run_id, "FINISHED", ended_ms, {records.MANIFEST_SHA256: sha256(result / MANIFEST)})

    def end(
        self,
        run_id: str,
        status: records.Ending,
        *,
        reason: str = "",
        ended_ms: int | None = None,
        attempt_ms: int | None = None,
    ) -> None:
        """Close a run; `ended_ms` is now unless something is known of when it really ended.

        With `attempt_ms`, only if the attempt that began then is still the last one: it may have been continued since.
        """
        self._end(run_id, status, ended_ms or _now_ms(), {records.REASON: reason[: records.MAX_TAG]}, attempt_ms)

    def past_runs(self, fingerprint: str | None = None) -> list[PastRun]:
        """Return every stage run, or those of one fingerprint, newest first; artifacts of finished ones are checked.

        Artifacts on this machine are hashed, once each; those of a remote store are checked when they are fetched.
        """
        condition = _role("stage")
        if fingerprint is not None:
            condition += f" and tags.`{records.FINGERPRINT}` = '{safe_name(fingerprint)}'"
        raws = list(self._search(condition))
        problems = self._artifacts.problems(raw for raw in raws if raw.status == "FINISHED")
        return [records.past_run(raw, problems.get(raw.run_id, "")) for raw in raws]

    def submissions(self, pipeline: str | None = None) -> list[Submission]:
        """Return the submissions, of one pipeline if named, the last continued first."""
        condition = _role("submission")
        if pipeline is not None:
            condition += f" and tags.`{records.PIPELINE}` = '{safe_name(pipeline)}'"
        found = [records.submission(raw) for raw in self._search(condition)]
        return sorted(found, key=lambda each: each.attempt_ms, reverse=True)

    def stage_runs(self, run_ids: Iterable[str]) -> dict[str, StageRun]:
        """Return stage runs by id; ids that are not of a stage are left out."""
        wanted = [safe_name(run_id) for run_id in dict.fromkeys(run_ids)]
        found: dict[str, StageRun] = {}
        for start in range(0, len(wanted), IDS_A_QUERY):
            ids = ", ".join(f"'{run_id}'" for run_id in wanted[start : start + IDS_A_QUERY])
            found |= {r.run_id: records.stage_run(r) for r in self._search(f"{_role('stage')} and run_id IN ({ids})")}
        return found

    def running(self) -> tuple[list[Submission], list[StageRun]]:
        """Return the submissions and the stage runs that the store believes to be running, as of one moment."""
        raws = list(self._search("attributes.status = 'RUNNING'"))
        submissions = [records.submission(raw) for raw in raws if raw.tags.get(records.ROLE) == "submission"]
        return submissions, [records.stage_run(raw) for raw in raws if raw.tags.get(records.ROLE) == "stage"]

    def find(self, reference: str) -> str:
        """Return the id of the run that begins with `reference`.

        Raises:
            NotFound: no run or several begin so, or it is shorter than 4 characters.
        """
        if len(reference) < 4 or not reference.isalnum():
            raise NotFound(f"`{reference}` is no run id", hint="give at least its first 4 characters")
        found = [raw.run_id for raw in self._search(f"attributes.run_id LIKE '{reference.lower()}%'")]
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
        with self._speaking():
            raw = _raw(self._client.get_run(run_id))
        return self._artifacts.fetch(raw, file)

    def _speaking(self) -> AbstractContextManager[None]:
        return connection.speaking(self._client.tracking_uri)

    def _begin(self, tags: dict[str, str], *, now_ms: int, resume: str | None) -> str:
        """Create a run with all its tags in one transaction, or reopen one."""
        tags = tags | {
            records.RESULTS_VERSION: str(RESULTS_VERSION),
            records.GIT_COMMIT: provenance.commit(),
            **{records.VERSION + name: version for name, version in provenance.versions().items()},
        }
        earlier = self._interrupted(resume) if resume else None
        tags |= records.attempt_tags(earlier or {}, now_ms)
        if earlier is None or resume is None:
            with self._speaking():
                return str(self._client.create_run(self._experiment, start_time=now_ms, tags=tags).info.run_id)
        self.set_tags(resume, tags | {records.REASON: ""})
        with self._speaking():  # last: a RUNNING run already has its new parent and owner
            self._client.update_run(resume, status="RUNNING")
        return resume

    def _interrupted(self, run_id: str) -> Mapping[str, str] | None:
        """Return the tags of a run that can be continued; None where it finished, or was deleted since."""
        found = list(self._search(f"attributes.run_id = '{safe_name(run_id)}'"))
        return found[0].tags if found and found[0].status != "FINISHED" else None

    def _end(
        self, run_id: str, status: str, ended_ms: int, tags: Mapping[str, str], attempt_ms: int | None = None
    ) -> None:
        with self._speaking():
            earlier = self._client.get_run(run_id).data.tags
        if attempt_ms is not None and earlier.get(records.ATTEMPT_MS) != str(attempt_ms):
            return
        self.set_tags(run_id, {**tags, **records.seconds_tag(earlier, ended_ms)})
        with self._speaking():
            self._client.set_terminated(run_id, status=status, end_time=ended_ms)

    def _download(self, run_id: str, file: str, folder: Path) -> Path:
        with self._speaking():
            return Path(self._client.download_artifacts(run_id, file, str(folder)))

    def _search(self, condition: str) -> Iterator[RawRun]:
        """Yield the runs that meet an MLflow filter, newest first."""
        token: str | None = None
        while True:
            with self._speaking():
                page = self._client.search_runs(
                    [self._experiment], condition, max_results=PAGE, order_by=["start_time DESC"], page_token=token
                )
            yield from map(_raw, page)
            if not (token := page.token):
                return


def _role(role: str) -> str:
    return f"tags.`{records.ROLE}` = '{role}'"


def _raw(run: Run) -> RawRun:
    info, data = run.info, run.data
    return RawRun(
        run_id=info.run_id,
        status=info.status,
        started_ms=info.start_time,
        ended_ms=info.end_time,
        artifact_uri=info.artifact_uri,
        metrics=data.metrics,
        params=data.params,
        tags=data.tags,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
