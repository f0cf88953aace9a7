"""Runs: begin, log, end, and find (`finding`). MLflow is imported when a store is opened, not before: it is slow.

A submission is a parent run, each stage it runs a child. MLflow takes a killed run to be running for ever:
so that a run is finished is said by its status together with its manifest, and `reconcile` ends what nobody runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from leoclr import RESULTS_VERSION
from orchestration import announced, connection, linking, locations, naming, provenance, records, rows
from orchestration.cluster import job
from orchestration.connection import EXPERIMENT, Connection
from orchestration.errors import StoreError
from orchestration.finding import Finder
from orchestration.naming import Context
from orchestration.plan import Plan, PlannedStage
from orchestration.query import Query
from orchestration.records import Point
from orchestration.storage import MANIFEST, Home, inside, problem_of, read_manifest, sha256

BATCH = 100  # params and tags in one request: MLflow's limit
PROVENANCE = "provenance"  # folder of the artifacts that tell where a submission comes from


class Store(Finder):
    """The tracking store. Every method is one step to disk or network, and all raise StoreError where it fails."""

    def __init__(self, home: Home, link: Connection, *, experiment_id: str, artifact_root: str) -> None:
        Finder.__init__(self, home, link, experiment_id=experiment_id, artifact_root=artifact_root)
        self._root = artifact_root
        self._models: dict[str, str | None] = {}  # that pre-trainings left, by run; a run's never changes

    @classmethod
    def open(cls, home: Home, uri: str | None = None) -> Store:
        """Connect to `uri`, else $MLFLOW_TRACKING_URI, else the home's own SQLite file, which is created when missing.

        Raises:
            StoreError: nothing answers there, or it has no room for our experiment.
        """
        link = Connection(home, uri)
        file = rows.file_of(link.uri)
        experiment_id, root = (rows.experiment(file, EXPERIMENT) if file else None) or link.experiment()
        locations.require(root, own=home.artifacts, store=connection.without_secrets(link.uri))
        if link.uri == connection.own(home):  # what somebody else's database looks like is not our business
            rows.keep_statistics(home.database)
        return cls(home, link, experiment_id=experiment_id, artifact_root=root)

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

        Its params are what all arms agree in, and the axes of a trial. `resume` names one to continue, unless it
        finished or was deleted since: then a new one begins. This process becomes its owner. `arm_labels`: label by
        axis, by arm name.
        """
        owner = provenance.Owner.current()
        tags = records.submission_tags(plan, title=title, arm_labels=arm_labels, owner=owner, now_ms=_now_ms())
        tags |= extra or {}
        texts = {"pipeline.yaml": spec_yaml, announced.FILE: announced.to_json(plan)}
        run_id = self.begin(tags, texts, resume=resume)
        self.log_params(run_id, naming.shared_params(plan, naming.axes_of(tags, records.AXIS)))
        return run_id

    def begin(self, tags: Mapping[str, str], texts: Mapping[str, str], *, resume: str | None) -> str:
        """Open a run above others, with `texts` by file name in its provenance; `resume` as in `begin_submission`."""
        sent = job.current()
        place = {records.JOB: sent.id if sent else "", records.CLUSTER: sent.cluster if sent else ""}
        run_id = self._begin({**tags, **(place if sent or resume else {})}, now_ms=_now_ms(), resume=resume)
        more = {"environment.json": provenance.environment(), **(sent.texts if sent else {})}
        with self._speaking():
            for file, text in {**texts, **more}.items():
                self._client.log_text(run_id, text, f"{PROVENANCE}/{file}")
        return run_id

    def log_files(self, run_id: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Keep files as artifacts of a run, in a folder of them if one is named."""
        with self._speaking():
            for file in files:
                self._client.log_artifact(run_id, str(file), folder)

    def begin_stage(
        self,
        planned: PlannedStage,
        *,
        parent: str,
        pipeline: str,
        arm_labels: Mapping[str, str],
        resume: str | None,
        context: Context | None = None,
    ) -> str:
        """Open the run of a stage under its submission and return its id; link it with its data and its checkpoint.

        `resume` names one to continue, unless it finished or was deleted since: then a new one begins.

        Raises:
            StoreError: a param or tag is longer than MLflow keeps, or `resume` has other params.
        """
        shown = context or Context()
        params = naming.stage_params(planned, shown.origin)
        tags = records.stage_tags(planned, parent=parent, pipeline=pipeline, arm_labels=arm_labels)
        tags[records.RUN_NAME] = naming.run_name(planned, shown.axes)
        run_id = self._begin(tags, now_ms=_now_ms(), resume=resume)
        note = {naming.NOTE: naming.stage_note(planned, run_id, shown)}
        # Params cannot be changed: a resumed run proves here that it has the same. What a user wrote into it stays.
        self.log_params(run_id, params, {} if run_id == resume else note)
        origin = self._model(shown.origin_run) if shown.origin_run else None
        data = str(planned.spec.params_json.get("dataset", ""))
        with self._speaking():
            linking.stand_on(self._client, run_id, dataset=data, digest=planned.digest, model_id=origin)
        return run_id

    def record_arm(self, parent: str, arm: str, stage: str, run_id: str) -> None:
        """Note on the submission that `run_id` serves `stage` of `arm`, whether it was begun for it or is reused."""
        self.set_tags(parent, records.run_entry(arm, stage, run_id))

    def log_points(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        """Record values, and tags with them; points that are recorded already add nothing."""
        from mlflow.entities import Metric, RunTag

        metrics = [Metric(p.key, p.value, p.timestamp_ms, p.step) for p in points]
        with self._speaking():
            self._client.log_batch(run_id, metrics=metrics, tags=[RunTag(*tag) for tag in (tags or {}).items()])

    def log_params(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str] | None = None) -> None:
        """Record params, and tags with the first of them; params that are recorded already must be the same."""
        from mlflow.entities import Param, RunTag

        kept, noted = [Param(*item) for item in params.items()], [RunTag(*item) for item in (tags or {}).items()]
        for start in range(0, max(1, len(kept)), BATCH):
            with self._speaking():
                self._client.log_batch(run_id, params=kept[start : start + BATCH], tags=noted if not start else [])

    def describe(self, run_id: str, markdown: str, *, more: str) -> None:
        """Set a run's description; of one that is too long the beginning, and `more`, which says where the rest is."""
        self.set_tags(run_id, {naming.NOTE: naming.fitting(markdown, more)})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, all in one request up to 100."""
        from mlflow.entities import RunTag

        for key, value in tags.items():
            if len(value) > records.MAX_TAG:
                raise StoreError(f"{len(value)} characters are more than the {records.MAX_TAG} MLflow keeps", place=key)
        with self._speaking():
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def heartbeat(self, run_ids: Iterable[str]) -> None:
        """Say that the owner of these runs is alive; of each of them, also where one cannot be told, as if deleted.

        Raises: the first StoreError of them.
        """
        first: StoreError | None = None
        for run_id in run_ids:
            try:
                self.set_tags(run_id, {records.HEARTBEAT_MS: str(_now_ms())})
            except StoreError as error:
                first = first or error
        if first:
            raise first

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
        with self._speaking():
            run = self._client.get_run(run_id)
            model = linking.stands_on(run)
            if run.data.tags[records.KIND] == naming.PRETRAIN:
                model = self._models[run_id] = linking.checkpoint(self._client, run, digests)
            self._client.log_batch(run_id, metrics=linking.finals(run, metrics, model, ended_ms))
        tags = {records.MANIFEST_SHA256: sha256(result / MANIFEST)}
        self._close(run_id, "FINISHED", ended_ms, tags | records.seconds_tag(run.data.tags, ended_ms))

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

    def size_of(self, run_id: str, file: str) -> int:
        """Return the bytes of an artifact, 0 where there is none of that name."""
        with self._speaking():
            found = self._client.list_artifacts(run_id)
        return next((each.file_size or 0 for each in found if each.path == file), 0)

    def drop_file(self, run_id: str, file: str) -> None:
        """Remove an artifact of a run; its manifest still names it."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._artifacts.place(self._get(run_id))
        with self._speaking():
            get_artifact_repository(uri, tracking_uri=self._link.uri).delete_artifacts(file)  # type: ignore[no-untyped-call]  # MLflow

    def _model(self, run_id: str) -> str | None:
        """Return the model that a pre-training's run left: older runs have none until somebody stands on them."""
        if run_id not in self._models:
            with self._speaking():
                run = self._client.get_run(run_id)
                self._models[run_id] = linking.checkpoint(self._client, run, self.digests(run_id))
        return self._models[run_id]

    def _begin(self, tags: dict[str, str], *, now_ms: int, resume: str | None) -> str:
        """Create a run with all its tags in one transaction, or reopen one."""
        tags = tags | {
            records.RESULTS_VERSION: str(RESULTS_VERSION),
            records.GIT_COMMIT: provenance.commit(),
            **{records.VERSION + name: version for name, version in provenance.versions().items()},
        }
        earlier = self._interrupted(resume) if resume else None
        is_same = not earlier or tags[records.ROLE] == "stage" or _plan(earlier) == _plan(tags)
        if not is_same:  # a stage proves by its params that it is the same
            fact = "its data or the results version is another one here: it would be another experiment"
            raise StoreError(fact, place=f"run {resume}", hint="submit its pipeline as a new one")
        tags |= records.attempt_tags(earlier or {}, now_ms)
        if earlier is None or resume is None:
            with self._speaking():
                info = self._client.create_run(self._experiment, start_time=now_ms, tags=tags).info
            locations.require_inside(str(info.artifact_uri), self._root)
            return str(info.run_id)
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
        self._close(run_id, status, ended_ms, {**tags, **records.seconds_tag(earlier, ended_ms)})

    def _close(self, run_id: str, status: str, ended_ms: int, tags: Mapping[str, str]) -> None:
        self.set_tags(run_id, tags)
        with self._speaking():
            self._client.set_terminated(run_id, status=status, end_time=ended_ms)


def _plan(tags: Mapping[str, str]) -> str:
    return tags.get(records.FINGERPRINT, "")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
