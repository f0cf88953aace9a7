"""From this machine to a cluster and back: a pipeline is sent, its run found, a silent job stopped, a run continued.

Where a run may be continued is said by the user: the profile that a store keeps with it is believed only when asked to.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestration import attach, opening, preflight, spec
from orchestration.cluster import api, checks, find
from orchestration.cluster import profile as profiles
from orchestration.cluster import send as sending
from orchestration.cluster.api import ClusterProblem
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.reach import Unreachable
from orchestration.cluster.send import Parcel, Sent
from orchestration.errors import LeoclrOpsError, NotFound, StoreError
from orchestration.preflight import Note
from orchestration.reconcile import SILENCE_S, reconcile
from orchestration.records import Submission
from orchestration.spec import PipelineSpec
from orchestration.stopping import CANCELLED
from orchestration.storage import Home, write_atomic
from orchestration.tracking import PROVENANCE, Store

FILE = "pipeline.yaml"
DETACH_S = 60.0  # that a client waits for a job to begin before it leaves it alone; it may queue for days
POLL_S = 1.0  # between two looks at a job that has not opened its run
STOP_S = 45.0  # in which a job ends that its cluster was asked to stop, 30 of them its own
_PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def placed(loaded: PipelineSpec, profile: ClusterProfile, roots: Mapping[str, Path]) -> PipelineSpec:
    """Return a pipeline as it runs on a cluster, by its profile; `roots` are folders of the nodes by data set."""
    return spec.placed(loaded, profile.fill, {**profile.data, **roots})


def look_over(there: PipelineSpec) -> list[Note]:
    """Return what an expert would warn of; the data lies on the nodes. Raises: SpecError for what cannot work."""
    notes = preflight.examine(there, {})
    preflight.refuse(notes, there.source)
    return notes


def parcel(there: PipelineSpec, run: str | None = None) -> Parcel:
    """Return what is sent of a pipeline; `run` is the submission's run that is continued."""
    return Parcel(there.name, ("submit", FILE), {FILE: there.yaml}, run)


def send(profile: ClusterProfile, what: Parcel) -> Sent:
    """Send it, once it is clear that the cluster takes it. Raises: LeoclrOpsError."""
    checks.require(profile)
    return sending.send(profile, what)


def open_store(profile: ClusterProfile) -> tuple[Home, Store]:
    """Open the store of a cluster as this machine reaches it, here and for all that this process starts.

    Raises: StoreError; SecretProblem.
    """
    tracking = profile.tracking
    os.environ["MLFLOW_TRACKING_URI"] = tracking.uri_here or tracking.uri
    if tracking.username is not None and tracking.password is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = tracking.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = tracking.password.value()
    return opening.create()


def open_storage(profile: ClusterProfile) -> tuple[Home, Store]:
    """Open the store of a cluster, and its home with the mirror, as this machine reaches them.

    Raises: StoreError; SecretProblem.
    """
    _, store = open_store(profile)
    storage = profile.storage
    if storage.access_key is not None and storage.secret_key is not None:
        os.environ["AWS_ACCESS_KEY_ID"] = storage.access_key.value()
        os.environ["AWS_SECRET_ACCESS_KEY"] = storage.secret_key.value()
    if endpoint := storage.endpoint_here or storage.endpoint:
        os.environ["AWS_ENDPOINT_URL_S3"] = endpoint
    if storage.region is not None:
        os.environ["AWS_DEFAULT_REGION"] = storage.region
    return Home(profile.home_there, storage.uri if storage.bucket is not None else ""), store


def await_run(
    profile: ClusterProfile, store: Store, job_id: str, *, tell: Callable[[str], None], most_s: float | None = None
) -> str | None:
    """Return the run that a job has opened, as soon as it has; `tell` is told what the job is doing before.

    A new cluster counts anew, and a run may be tagged with a job of the same id on a lost one: what began before the
    job is not its own, by the clock of the head that both times are of. None where it waits for the cluster for more
    than `most_s` seconds: one that has begun opens its run in a moment.
    Raises: ClusterProblem when the job ends without one, with the last words of its log.
    """
    told, began, is_waiting = "", time.monotonic(), False
    while not is_waiting or most_s is None or time.monotonic() - began < most_s:
        job = api.find(profile, job_id)  # before the run: one of a job that is over was opened by then
        if job and (found := store.of_job(job_id)) and found.attempt_ms >= job.started_ms:
            return found.run_id
        if job is None or job.is_over:
            raise _unopened(profile, job_id, job)
        if told != (told := f"job {job_id}: {job.status.lower()}"):
            tell(told)
        is_waiting = job.status == "PENDING"
        time.sleep(POLL_S)
    return None


def profile_for(store: Store, run: Submission, *, cluster: str | None, kept: bool) -> ClusterProfile | None:
    """Return the profile of the cluster to continue a run on; None for this machine.

    `cluster` names one; otherwise it is the one that the run was sent to. `kept` is the user's word that the profile
    which the store keeps with the run may be used.
    Raises: NotFound where there is none; SpecError for what is wrong in it.
    """
    if cluster is not None:
        return find.load(cluster)
    if not run.cluster:
        return None
    if kept:
        return _kept(store, run)
    if not _PROFILE_NAME.fullmatch(run.cluster):
        raise NotFound("its profile has no name that we give", place=f"run {run.run_id}", hint="--cluster NAME")
    try:
        return find.load(run.cluster)
    except NotFound as error:
        hint = (
            "--cluster NAME continues it on a cluster of yours; --kept-profile takes the profile that the store keeps "
            f"(provenance/{sending.PROFILE}), which says where to connect, and which secrets of this machine go there"
        )
        raise NotFound(f"it ran on {run.cluster}, and {error.fact}", place=f"run {run.run_id}", hint=hint) from None


def stop(store: Store, run: Submission) -> bool:
    """End the job of a submission through its cluster's Jobs API; False where that cannot be, or it does not end.

    It cannot where no profile here knows the cluster, or the cluster does not answer.
    Raises: LeoclrOpsError when the cluster refuses.
    """
    if not run.job or not _PROFILE_NAME.fullmatch(run.cluster):
        return False
    try:
        is_over = _stop_job(find.load(run.cluster), run.job)
    except (NotFound, Unreachable):
        return False
    if not is_over:  # its driver may live and write: the runs are its own
        return False
    for stage in store.stage_runs(found for arm in run.arms.values() for found in arm.values()).values():
        if stage.status == "RUNNING" and stage.parent == run.run_id:
            store.end(stage.run_id, "KILLED", reason=CANCELLED)
    if store.status(run.run_id) == "RUNNING":
        store.end(run.run_id, "KILLED", reason=CANCELLED, attempt_ms=run.attempt_ms)
    return True


def _stop_job(profile: ClusterProfile, job_id: str) -> bool:
    """Ask the cluster to stop a job, and wait; return whether it is over, as one is that the cluster forgot."""
    if api.find(profile, job_id):
        api.stop(profile, job_id)
    deadline = time.monotonic() + STOP_S
    while (job := api.find(profile, job_id)) and not job.is_over and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return job is None or job.is_over


def await_silence(store: Store, run_id: str, tell: Callable[[str], None]) -> Submission:
    """Return a submission that nobody runs; one whose driver may be dead is waited for until that is sure.

    Raises: LeoclrOpsError when it runs, or finished, or is a sweep.
    """
    reconcile(store)
    found = store.submission(run_id)
    if found is not None and found.status == "RUNNING":
        tell(f"waiting up to {SILENCE_S:.0f} s for a sign of life from {found.host}")
        if attach.gives_sign(store, found):
            hint = f"leoclr-ops attach {run_id[:8]}, or leoclr-ops cancel {run_id[:8]}"
            raise LeoclrOpsError(f"it runs on {found.host}", place=f"run {run_id}", hint=hint)
        found = store.submission(run_id)
    if found is None and (sweep := store.sweep(run_id)):
        hint = "the same `leoclr-ops sweep` command goes on with it, here or with --cluster"
        raise NotFound(f"it is the sweep {sweep.pipeline}", place=f"run {run_id}", hint=hint)
    if found is None or found.status == "FINISHED":
        raise NotFound("it finished" if found else "it was deleted", place=f"run {run_id}")
    return found


def require_known(profile: ClusterProfile, there: Store, run: Submission, here: Store) -> None:
    """Refuse to continue a run on a cluster whose store does not have it: it would begin anew. Raises: StoreError."""
    if there.submission(run.run_id) is None:
        fact = f"it is in {here.uri}, and {profile.name} records in {there.uri}, where it would begin anew"
        hint = "--cluster NAME of one that records in the same store, or submit its pipeline as a new one"
        raise StoreError(fact, place=f"run {run.run_id}", hint=hint)


def recorded(store: Store, run: Submission, overrides: Sequence[str] = ()) -> PipelineSpec:
    """Return the pipeline that a submission ran; a table that is a file is read only where the store is ours.

    Raises: NotFound; SpecError: the store may be anybody's.
    """
    text = store.text(run.run_id, f"{PROVENANCE}/{FILE}")
    if text is None:
        raise NotFound("its pipeline is not there", place=f"run {run.run_id}")
    found = spec.recorded(text, f"run {run.run_id[:8]}: {PROVENANCE}/{FILE}", overrides)
    return spec.placed(found, lambda asked: asked, {}) if store.is_served else found


def _kept(store: Store, run: Submission) -> ClusterProfile:
    text = store.text(run.run_id, f"{PROVENANCE}/{sending.PROFILE}")
    if text is None or not _PROFILE_NAME.fullmatch(run.cluster):
        raise NotFound("the store keeps no profile with it", place=f"run {run.run_id}", hint="--cluster NAME")
    path = Home.default().path / "clusters" / run.run_id / f"{run.cluster}.yaml"
    write_atomic(path, text)
    return profiles.load(path, f"run {run.run_id[:8]}: {PROVENANCE}/{sending.PROFILE}")


def _unopened(profile: ClusterProfile, job_id: str, job: api.Job | None) -> LeoclrOpsError:
    if job is None:
        return StoreError("the cluster does not know it any more", place=f"job {job_id}", hint="was its head replaced?")
    words = api.last_words(profile, job_id)
    fact = f"it ended ({job.status.lower()}) before it opened a run\n\n{words or job.message}"
    return ClusterProblem(fact, place=f"job {job_id}", hint="the lines above are its last")
