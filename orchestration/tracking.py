"""Runs: begin, log, end, and find (`finding`). MLflow is imported when a store is opened, not before: it is slow.

A submission is a parent run, each stage it runs a child. MLflow takes a killed run to be running for ever:
so that a run is finished is said by its status together with its manifest, and `reconcile` ends what nobody runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from leoclr import RESULTS_VERSION
from orchestration import connection, provenance, records, rows
from orchestration.errors import StoreError
from orchestration.finding import Finder
from orchestration.plan import Plan, PlannedStage
from orchestration.query import Query
from orchestration.records import Point
from orchestration.storage import MANIFEST, Home, inside, problem_of, read_manifest, sha256

PROVENANCE = "provenance"  # folder of the artifacts that tell where a submission comes from


class Store(Finder):
    """The tracking store. Every method is one step to disk or network, and all raise StoreError where it fails."""

    @classmethod
    def open(cls, home: Home, uri: str | None = None) -> Store:
        """Connect to `uri`, else $MLFLOW_TRACKING_URI, else the home's own SQLite file, which is created when missing.

        Raises:
            StoreError: nothing answers there, or it has no room for our experiment.
        """
        client, experiment_id, root = connection.connect(home, uri)
        if client.tracking_uri == connection.own(home):  # what somebody else's database looks like is not our business
            rows.keep_statistics(home.database)
        return cls(home, client, experiment_id=experiment_id, artifact_root=root)

    def begin_submission(
        self,
        plan: Plan,
        *,
        title: str,
        spec_yaml: str,
        arm_labels: Mapping[str, Mapping[str, str]],
        resume: str | None,
        extra: Mapping[str, str] | None = None,
    ) -> str:
        """Open the parent run of a submission and return its id; `extra` are more tags, such as those of a trial.

        `resume` names one to continue, unless it finished or was deleted since: then a new one begins.
        This process becomes its owner. `arm_labels`: label by axis, by arm name.
        """
        owner = provenance.Owner.current()
        tags = records.submission_tags(plan, title=title, arm_labels=arm_labels, owner=owner, now_ms=_now_ms())
        tags |= extra or {}
        return self.begin(tags, {"pipeline.yaml": spec_yaml}, resume=resume)

    def begin(self, tags: Mapping[str, str], texts: Mapping[str, str], *, resume: str | None) -> str:
        """Open a run above others, with `texts` by file name in its provenance; `resume` as in `begin_submission`."""
        run_id = self._begin(dict(tags), now_ms=_now_ms(), resume=resume)
        with self._speaking():
            for file, text in (*texts.items(), ("environment.json", provenance.environment())):
                self._client.log_text(run_id, text, f"{PROVENANCE}/{file}")
        return run_id

    def log_files(self, run_id: str, files: Iterable[Path]) -> None:
        """Keep files as artifacts of a run."""
        with self._speaking():
            for file in files:
                self._client.log_artifact(run_id, str(file))

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
        found = self._find(Query(run_ids=(run_id,)))
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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
