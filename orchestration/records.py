"""What the tracking store remembers, as plain values: all tag names, and the way from values to tags and back. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jobs import protocols
from orchestration.errors import StoreError
from orchestration.plan import PastRun, Plan, PlannedStage
from orchestration.provenance import Owner

Ending = Literal["FINISHED", "FAILED", "KILLED"]
Status = Literal["FINISHED", "RUNNING", "FAILED", "KILLED"]

ROLE = "leoclr.role"  # "sweep" (parent of its trials), "submission" (one of those, or its own) or "stage" (its child)
SWEEP = "leoclr.sweep"  # of a submission that is a trial: the sweep's name
AXIS = "leoclr.axis."  # + axis: its value in a trial
PIPELINE = "leoclr.pipeline"
FINGERPRINT = "leoclr.fingerprint"  # of the stage, or of the whole plan
STAGE, KIND, ARM = "leoclr.stage", "leoclr.kind", "leoclr.arm"
PROTOCOL = "leoclr.protocol"  # of an evaluation: "moco 1" or "moco 1, changed: epochs, lrs"
LABELS = "leoclr.arm_labels"  # JSON: label by axis
PARAMS = "leoclr.params"  # JSON: MLflow's own params are text, and plans compare values
INPUTS = "leoclr.inputs"  # JSON: fingerprint by name of the needed stage
DIGEST, MANIFEST_SHA256 = "leoclr.data_digest", "leoclr.manifest"
RESULTS_VERSION = "leoclr.results_version"
ATTEMPT_MS = "leoclr.attempt_ms"  # when the last attempt began
EARLIER_S = "leoclr.earlier_s"  # seconds of the attempts before it
SECONDS = "leoclr.seconds"  # of all attempts together, once ended
REASON = "leoclr.reason"  # why it failed or stopped
HEARTBEAT_MS = "leoclr.heartbeat_ms"
PROGRESS = "leoclr.progress"  # of a running stage: JSON [epoch, epochs, share done, [metric, value] or null]
CANCEL = "leoclr.cancel"  # on a submission: the ATTEMPT_MS of the attempt that somebody wants to end
JOB, CLUSTER = "leoclr.job", "leoclr.cluster"  # of a submission that runs as a cluster's job: its id, the profile
TITLE = "leoclr.title"
IMPORT = "leoclr.import"  # of a run that was imported: JSON of what is known of its file
HOST, PID, PID_CREATED, GIT_COMMIT = "leoclr.host", "leoclr.pid", "leoclr.pid_created", "leoclr.git_commit"
VERSION = "leoclr.version."  # + package
ARM_ENTRY = "leoclr.arm_entry."  # + hash of the arm's name: JSON [arm, labels], on the submission
RUN_ENTRY = "leoclr.run_entry."  # + hash of arm and stage: JSON [arm, stage, run id], on the submission
PARENT, RUN_NAME = "mlflow.parentRunId", "mlflow.runName"
CHECKPOINT, SHA256 = "leoclr.checkpoint", "leoclr.sha256"  # of a model: where its weights are, and what they hash to

DIVERGED = "Diverged: "  # how the reason of a stage begins whose loss or weights are no numbers any more
FINAL = "final/"  # + metric: what a stage ended with, beside its curve of the same name
# KIND + "/" + metric is the same once more, under a name that no other kind has: of the run, and of its checkpoint
MAX_TAG, MAX_NAME = 8000, 250  # characters; MLflow cuts longer values silently: mlflow/utils/validation.py
MAX_VALUE = 1.7976931348623157e308  # how MLflow's SQL store writes infinity


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric. Logged twice with the same time it is stored once, so a replay adds nothing."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class RawRun:
    """A run as MLflow returns it, without its types."""

    run_id: str
    status: str
    started_ms: int
    ended_ms: int | None
    artifact_uri: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StageRun:
    """The run of one stage, for the eye and for tables."""

    run_id: str
    stage: str
    kind: str
    arm: str
    status: Status
    metrics: dict[str, float]  # the last of each curve; once finished, what the stage ended with
    tags: Mapping[str, str]
    params: Mapping[str, Any]  # as StageSpec.params_json
    started_ms: int
    ended_ms: int | None
    parent: str

    @property
    def diverged(self) -> bool:
        """Whether it failed since what it learned is no number any more: a result of its params, and no mistake."""
        return self.status == "FAILED" and self.tags.get(REASON, "").startswith(DIVERGED)


@dataclass(frozen=True, slots=True)
class Submission:
    """One command that ran a pipeline; continuing it keeps its run."""

    run_id: str
    pipeline: str
    title: str
    status: Status
    started_ms: int
    ended_ms: int | None
    attempt_ms: int  # when it was last continued
    arms: Mapping[str, Mapping[str, str]]  # run id by stage name, by arm name; reused runs included
    arm_labels: Mapping[str, Mapping[str, str]]  # label by axis, by arm name; every arm of the plan
    host: str
    pid: int
    pid_created: float  # Unix time, s
    heartbeat_ms: int
    sweep: str = ""  # name of the sweep that it is a trial of
    fingerprint: str = ""  # of its plan
    job: str = ""  # as which it was sent to a cluster
    cluster: str = ""  # the profile of that

    @property
    def owner(self) -> Owner:
        """The process that runs it, or ran it last."""
        return Owner(self.host, self.pid, self.pid_created)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs of its stages, each once, in the order of its arms."""
        return tuple(dict.fromkeys(run for stages in self.arms.values() for run in stages.values()))


def stage_tags(planned: PlannedStage, *, parent: str, pipeline: str, arm_labels: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that identify the run of a planned stage; `past_run` reads them back.

    Raises:
        StoreError: a value is longer than MLflow keeps.
    """
    arm = planned.arms[0] if planned.arms else ""
    tags = {
        ROLE: "stage",
        PARENT: parent,
        RUN_NAME: f"{planned.name} {arm}".strip(),
        PIPELINE: pipeline,
        FINGERPRINT: planned.fingerprint,
        STAGE: planned.name,
        KIND: planned.kind,
        ARM: arm,
        LABELS: json.dumps(dict(arm_labels)),
        PARAMS: json.dumps(dict(planned.spec.params_json)),
        INPUTS: json.dumps(dict(planned.inputs)),
        DIGEST: planned.digest,
    }
    if protocol := protocols.title(planned.kind, planned.spec.params):
        tags[PROTOCOL] = protocol
    return {key: _fits(value, MAX_TAG, key) for key, value in tags.items()}


def submission_tags(
    plan: Plan, *, title: str, arm_labels: Mapping[str, Mapping[str, str]], owner: Owner, now_ms: int
) -> dict[str, str]:
    """Return the tags that identify a submission and its owner; `submission` reads them back. Raises: StoreError."""
    tags = {
        ROLE: "submission",
        RUN_NAME: plan.pipeline,
        PIPELINE: plan.pipeline,
        FINGERPRINT: plan.fingerprint,
        TITLE: title,
        HOST: owner.host,
        PID: str(owner.pid),
        PID_CREATED: repr(owner.created),
        HEARTBEAT_MS: str(now_ms),
    }
    for arm, labels in arm_labels.items():
        tags |= arm_entry(arm, labels)
    return {key: _fits(value, MAX_TAG, key) for key, value in tags.items()}


def arm_entry(arm: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the tag by which a submission knows an arm."""
    return {ARM_ENTRY + _key(arm): json.dumps([arm, dict(labels)])}


def run_entry(arm: str, stage: str, run_id: str) -> dict[str, str]:
    """Return the tag by which a submission knows which run serves a stage of an arm."""
    return {RUN_ENTRY + _key(arm, stage): json.dumps([arm, stage, run_id])}


def past_run(raw: RawRun, problem: str) -> PastRun:
    """Return what a plan may know of a stage's run; `problem` is what is wrong with its artifact, or ""."""
    unusable = problem if raw.status == "FINISHED" else f"not finished ({raw.status.lower()})"
    return PastRun(
        run_id=raw.run_id,
        fingerprint=_tag(raw, FINGERPRINT),
        kind=_tag(raw, KIND),
        stage=_tag(raw, STAGE),
        arm=_tag(raw, ARM),
        pipeline=_tag(raw, PIPELINE),
        params=_json(raw, PARAMS),
        digest=_tag(raw, DIGEST),
        results_version=int(_tag(raw, RESULTS_VERSION)),
        inputs=_json(raw, INPUTS),
        status=_status(raw),
        reusable=not unusable,
        problem=unusable,
        seconds=float(raw.tags[SECONDS]) if SECONDS in raw.tags else None,
        started_ms=raw.started_ms,
    )


def stage_run(raw: RawRun) -> StageRun:
    """Return a stage's run."""
    again = (FINAL, f"{_tag(raw, KIND)}/")
    curves = {key: _value(value) for key, value in raw.metrics.items() if not key.startswith(again)}
    final = {key.removeprefix(FINAL): _value(value) for key, value in raw.metrics.items() if key.startswith(FINAL)}
    return StageRun(
        run_id=raw.run_id,
        stage=_tag(raw, STAGE),
        kind=_tag(raw, KIND),
        arm=_tag(raw, ARM),
        status=_status(raw),
        metrics=curves | final,
        tags=raw.tags,
        params=_json(raw, PARAMS),
        started_ms=raw.started_ms,
        ended_ms=None if raw.status == "RUNNING" else raw.ended_ms,
        parent=_tag(raw, PARENT),
    )


def submission(raw: RawRun) -> Submission:
    """Return a submission."""
    labels = dict(json.loads(value) for key, value in raw.tags.items() if key.startswith(ARM_ENTRY))
    arms: dict[str, dict[str, str]] = {arm: {} for arm in labels}
    for key, value in raw.tags.items():
        if key.startswith(RUN_ENTRY):
            arm, stage, run_id = json.loads(value)
            arms.setdefault(arm, {})[stage] = run_id
    return Submission(
        run_id=raw.run_id,
        pipeline=_tag(raw, PIPELINE),
        title=_tag(raw, TITLE),
        status=_status(raw),
        started_ms=raw.started_ms,
        ended_ms=None if raw.status == "RUNNING" else raw.ended_ms,
        attempt_ms=int(_tag(raw, ATTEMPT_MS)),
        arms=arms,
        arm_labels=labels,
        host=_tag(raw, HOST),
        pid=int(_tag(raw, PID)),
        pid_created=float(_tag(raw, PID_CREATED)),
        heartbeat_ms=int(_tag(raw, HEARTBEAT_MS)),
        sweep=raw.tags.get(SWEEP, ""),
        fingerprint=raw.tags.get(FINGERPRINT, ""),
        job=raw.tags.get(JOB, ""),
        cluster=raw.tags.get(CLUSTER, ""),
    )


def attempt_tags(earlier: Mapping[str, str], now_ms: int) -> dict[str, str]:
    """Return the tags of an attempt that begins now, given the tags that earlier ones left."""
    return {ATTEMPT_MS: str(now_ms), EARLIER_S: earlier.get(SECONDS, "0")}


def seconds_tag(tags: Mapping[str, str], ended_ms: int) -> dict[str, str]:
    """Return the tag with the seconds of all attempts, the last one ended at `ended_ms`. Asking twice adds nothing."""
    attempt = max(0, ended_ms - int(tags.get(ATTEMPT_MS, ended_ms))) / 1000
    return {SECONDS: f"{float(tags.get(EARLIER_S, 0)) + attempt:.3f}"}


def _tag(raw: RawRun, key: str) -> str:
    if key not in raw.tags:
        hint = f"it was not made by this version; remove it: mlflow runs delete --run-id {raw.run_id}"
        raise StoreError(f"the run has no tag `{key}`", place=f"run {raw.run_id}", hint=hint)
    return raw.tags[key]


def _json(raw: RawRun, key: str) -> dict[str, Any]:
    try:
        value = json.loads(_tag(raw, key))
    except ValueError as error:
        raise StoreError(f"tag `{key}` is not JSON", place=f"run {raw.run_id}") from error
    return dict(value)


def _status(raw: RawRun) -> Status:
    """MLflow also knows SCHEDULED, which nothing here sets."""
    known: dict[str, Status] = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"}
    return known.get(raw.status, "RUNNING")


def _value(stored: float) -> float:
    return math.copysign(math.inf, stored) if abs(stored) == MAX_VALUE else stored


def _fits(value: str, limit: int, name: str) -> str:
    if len(value) > limit:
        raise StoreError(f"{len(value)} characters are more than the {limit} that MLflow keeps", place=name)
    return value


def _key(*names: str) -> str:
    """MLflow keys allow few characters and arm names many."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
