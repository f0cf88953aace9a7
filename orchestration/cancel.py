"""Stop a submission. Here its process first gets the time to seal its runs, then it and all that it started are killed.

On another machine its driver finds the wish in the store. Where that is silent, the cluster's Jobs API ends the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from orchestration import look, records
from orchestration.errors import LeoclrOpsError, NotFound, StoreError
from orchestration.reconcile import reconcile
from orchestration.records import Submission
from orchestration.tracking import Store

GRACE_S = 10.0  # between SIGTERM and SIGKILL
ORPHANS_S = 2.0  # in which Ray's processes end by themselves once their driver has
KILLED_S = 5.0  # in which the kernel removes a killed process
ASKED_S = 20.0  # in which a driver on another machine ends: it looks every 2 s, and tells MLflow of each stage
LOOK_S = 0.5  # between two looks whether it has

Stop = Callable[[Submission], bool]  # ends a cluster's job by other means; whether it could


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a cancel did: the submission, its stages that were running, and how many processes had to be killed."""

    run_id: str
    pipeline: str
    stages: tuple[str, ...]
    killed: int


def cancel(
    store: Store, reference: str | None = None, *, grace_s: float = GRACE_S, otherwise: Stop | None = None
) -> Stopped:
    """Stop a running submission and every process of it; without a reference the only one that runs.

    `otherwise` is tried where it runs on another machine, and its driver does not answer.

    Raises:
        NotFound: nothing runs, or there is no such run.
        StoreError: it runs on another machine, and does not answer.
        LeoclrOpsError: several run and none is named.
    """
    reconcile(store)
    submission = _choose(store, reference)
    runs = store.stage_runs(submission.run_ids).values()
    stages = tuple(f"{run.stage} {run.arm}".rstrip() for run in runs if run.status == "RUNNING")
    if submission.owner.alive() is None:
        _ask_owner(store, submission, otherwise)
        return Stopped(submission.run_id, submission.pipeline, stages, 0)
    killed = _end_owner(submission, grace_s)
    reconcile(store)
    return Stopped(submission.run_id, submission.pipeline, stages, killed)


def end_tree(owner: psutil.Process, grace_s: float) -> int:
    """Send SIGTERM to `owner`, wait, and kill what is left of it and of its children; return how many were killed."""
    family = set(_children(owner))  # noted while it lives: an orphan no longer says whose child it was
    try:
        owner.terminate()
    except psutil.NoSuchProcess:
        return 0  # it ended by itself in this moment
    deadline = time.monotonic() + grace_s
    while _lives(owner) and time.monotonic() < deadline:
        family.update(_children(owner))
        time.sleep(0.05)
    psutil.wait_procs(family, timeout=ORPHANS_S)
    alive = [member for member in (owner, *family) if _lives(member)]
    for member in alive:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=KILLED_S)
    return len(alive)


def _choose(store: Store, reference: str | None) -> Submission:
    if reference is None:
        return _only(store.submissions(running=True))
    if "-" not in reference and (sweep := store.sweep(store.find(reference))):
        submission, stage = sweep, None
    else:
        submission, stage = look.find(store, reference)
    if stage is not None:
        hint = f"cancel its submission: leoclr-ops cancel {submission.run_id[:8]}"
        raise NotFound("only a whole submission can be stopped, and this is a stage", place=f"run {stage}", hint=hint)
    if submission.status != "RUNNING":
        raise NotFound(f"it does not run: {look.WORDS[submission.status]}", place=f"run {submission.run_id}")
    return submission


def _only(running: list[Submission]) -> Submission:
    if not running:
        raise NotFound("nothing is running", hint="`leoclr-ops status` lists what ran")
    if len(running) > 1:
        names = ", ".join(f"{submission.run_id[:8]} ({submission.pipeline})" for submission in running)
        raise LeoclrOpsError(f"{len(running)} submissions are running", hint=f"name one: {names}")
    return running[0]


def _ask_owner(store: Store, submission: Submission, otherwise: Stop | None) -> None:
    """Let a driver on another machine know, and wait until it has ended. Raises: StoreError where it does not."""
    store.set_tags(submission.run_id, {records.CANCEL: str(submission.attempt_ms)})
    if _has_ended(store, submission):
        return
    if otherwise and otherwise(submission) and _has_ended(store, submission):
        return
    fact = f"{submission.host} was asked {ASKED_S:.0f} s ago, and does not answer"
    hint = "where it lives, it ends by itself; where it is gone, `leoclr-ops status` says so after 90 s of silence"
    raise StoreError(fact, place=f"run {submission.run_id}", hint=hint)


def _has_ended(store: Store, submission: Submission) -> bool:
    deadline = time.monotonic() + ASKED_S
    while time.monotonic() < deadline:
        if store.status(submission.run_id) != "RUNNING":
            return True
        time.sleep(LOOK_S)
    return False


def _end_owner(submission: Submission, grace_s: float) -> int:
    try:
        owner = psutil.Process(submission.pid)
    except psutil.NoSuchProcess:
        return 0
    return end_tree(owner, grace_s) if submission.owner.alive() else 0  # the id may be another's by now


def _children(owner: psutil.Process) -> list[psutil.Process]:
    try:
        return owner.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
