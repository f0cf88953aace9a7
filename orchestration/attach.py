"""Watch a submission from anywhere: what the display shows, made of what the store knows of it.

The submission may run in another terminal, on another machine, or as a job of a cluster. To watch changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from orchestration import announced, look, records
from orchestration.announced import Announced
from orchestration.errors import NotFound
from orchestration.progress import Outcome, Snapshot, StageState, StageView
from orchestration.reconcile import reconcile
from orchestration.records import StageRun, Submission
from orchestration.stopping import WISHED
from orchestration.tracking import PROVENANCE, Store

POLL_S, SWEEP_POLL_S = 1.0, 5.0  # between two looks at the store
RECONCILE_S = 15.0  # between two looks whether its driver still lives
SILENT_S = 45.0  # three heartbeats, after which the display says so
TABLE, TABLE_S = "table.md", 60.0  # of a sweep; from the end of its run, Ray goes down and plots are drawn before
SOON = 0.02  # share of a stage before which its own speed tells nothing of the time left

Show = Callable[[Snapshot], None]


def follow(store: Store, run_id: str, show: Show) -> Outcome:
    """Show a submission, or a sweep, until it ends, and return what came of it; at once where it has ended.

    Raises: StoreError when the store does not answer; NotFound when the run was deleted.
    """
    watched: _Watched = _WatchedSweep(store, run_id) if store.sweep(run_id) else _Watched(store, run_id)
    reconciled = time.monotonic()
    while True:
        snapshot = watched.look()
        show(snapshot)
        if watched.submission.status != "RUNNING":
            return outcome(watched.submission, snapshot, store.tags(run_id).get(records.REASON, ""))
        time.sleep(watched.poll_s)
        if time.monotonic() - reconciled > RECONCILE_S:
            reconcile(store)
            reconciled = time.monotonic()


def outcome(submission: Submission, snapshot: Snapshot, reason: str) -> Outcome:
    """Return what came of a submission that has ended, for that reason; one whose budget is spent was not stopped."""
    failed = [view for view in snapshot.stages if view.state == "failed"]
    reasons = tuple(f"{view.name} {view.arms[0] if view.arms else ''}".rstrip() + f": {view.note}" for view in failed)
    lost = submission.ended_ms == submission.heartbeat_ms  # so `reconcile` ends whose process is gone
    stopped = submission.status == "KILLED" and (lost or reason in WISHED)
    return Outcome(submission.run_id, reasons, stopped)


def running(store: Store, fingerprint: str) -> str | None:
    """Return the run in which a plan is under way, None where it is not."""
    found = (each.run_id for each in store.running()[0] if each.fingerprint == fingerprint)
    return next(found, None)


def is_lost(store: Store, run_id: str) -> bool:
    """Return whether a submission was cut off, and not as somebody wished."""
    tags = store.tags(run_id)
    found = store.submission(run_id)
    return found is not None and found.status == "KILLED" and tags.get(records.REASON) not in WISHED


def gives_sign(store: Store, seen: Submission) -> bool:
    """Wait for a sign of life of a submission later than `seen`: True; False when it has ended without one."""
    while True:
        reconcile(store)
        found = store.submission(seen.run_id)
        if found is None or found.status != "RUNNING":
            return False
        if found.heartbeat_ms != seen.heartbeat_ms:
            return True
        time.sleep(POLL_S)


def await_table(store: Store, run_id: str, earlier: str | None) -> str | None:
    """Return the table of a sweep that has ended, which its driver writes last; None where it does not come.

    `earlier` is that of an attempt before: it is returned only where no other one comes.
    """
    deadline = time.monotonic() + TABLE_S
    while (found := table(store, run_id)) in (None, earlier) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return found


def table(store: Store, run_id: str) -> str | None:
    """Return the table that a sweep left so far."""
    return store.text(run_id, TABLE)


def find(store: Store, reference: str) -> str:
    """Return the run of the submission or sweep that `reference` means, by run or by job. Raises: NotFound."""
    if "-" not in reference and store.sweep(run_id := store.find(reference)):
        return run_id
    return look.find(store, reference)[0].run_id


class _Watched:
    """A submission that is looked at again and again; what cannot change any more is asked for once."""

    poll_s = POLL_S

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._plan: tuple[Announced, ...] = ()
        self._final: dict[str, StageRun] = {}

    def look(self) -> Snapshot:
        """Return how far it is now."""
        found = self._store.submission(self._run_id)
        if found is None:
            raise NotFound("it was deleted", place=f"run {self._run_id}")
        self.submission = found
        self._plan = self._plan or announced.read(self._store.text(self._run_id, f"{PROVENANCE}/{announced.FILE}"))
        wanted = [run_id for run_id in found.run_ids if run_id not in self._final]
        runs = self._final | self._store.stage_runs(wanted)
        self._final = {run_id: run for run_id, run in runs.items() if run.status == "FINISHED"}
        return snapshot(self._plan, found, runs, now_ms=time.time() * 1000, now=time.monotonic())


class _WatchedSweep(_Watched):
    """A sweep that is looked at again and again: a line for each trial."""

    poll_s = SWEEP_POLL_S

    def look(self) -> Snapshot:
        """Return how far it is now."""
        found = self._store.sweep(self._run_id)
        if found is None:
            raise NotFound("it was deleted", place=f"run {self._run_id}")
        self.submission, now_ms = found, time.time() * 1000
        trials = sorted(self._store.trials(self._run_id), key=lambda trial: trial.started_ms)
        views = tuple(_trial(number, trial, now_ms) for number, trial in enumerate(trials, start=1))
        return replace(snapshot((), found, {}, now_ms=now_ms, now=time.monotonic()), stages=views)


def _trial(number: int, trial: Submission, now_ms: float) -> StageView:
    states: dict[str, StageState] = {"RUNNING": "running", "FINISHED": "done", "FAILED": "failed", "KILLED": "stopped"}
    arms = tuple(trial.arm_labels)
    seconds = ((trial.ended_ms or now_ms) - trial.attempt_ms) / 1000
    return StageView(f"trial {number}", "trial", arms, states[trial.status], trial.run_id, seconds=seconds)


def snapshot(
    plan: tuple[Announced, ...], submission: Submission, runs: Mapping[str, StageRun], *, now_ms: float, now: float
) -> Snapshot:
    """Return what the display shows of a submission; `now_ms` is Unix time, `now` the monotonic clock's, in seconds."""
    silent_s = (now_ms - submission.heartbeat_ms) / 1000
    is_silent = submission.status == "RUNNING" and silent_s > SILENT_S
    return Snapshot(
        pipeline=submission.pipeline,
        run_id=submission.run_id,
        started=now - max(0.0, (submission.ended_ms or now_ms) - submission.attempt_ms) / 1000,
        stages=tuple(_view(stage, submission, runs, now_ms) for stage in plan or _begun(submission, runs)),
        note=f"no sign of life from {submission.host} for {silent_s:.0f} s" if is_silent else "",
    )


def _begun(submission: Submission, runs: Mapping[str, StageRun]) -> Iterator[Announced]:
    """Yield the stages that were begun: older submissions announce no plan."""
    for run_id in submission.run_ids:
        if run := runs.get(run_id):
            arms = tuple(arm for arm, stages in submission.arms.items() if run_id in stages.values())
            yield Announced(run.stage, run.kind, arms, run.tags[records.FINGERPRINT], True, None, "")


def _view(stage: Announced, submission: Submission, runs: Mapping[str, StageRun], now_ms: float) -> StageView:
    ids = (submission.arms.get(arm, {}).get(stage.name, "") for arm in stage.arms)
    run = next((runs[run_id] for run_id in ids if run_id in runs), None)
    if run is None or _is_of_earlier_attempt(run, submission):
        state: StageState = "waiting" if stage.todo else "reused"
        return StageView(stage.name, stage.kind, stage.arms, state, seconds_left=stage.estimate_s)
    return _running(stage, run, now_ms) if run.status == "RUNNING" else _ended(stage, run, submission, now_ms)


def _is_of_earlier_attempt(run: StageRun, submission: Submission) -> bool:
    """Return whether what a run says is of an attempt that was continued, in which it was not begun yet."""
    began_ms = int(run.tags.get(records.ATTEMPT_MS, run.started_ms))
    return submission.status == "RUNNING" and run.status in ("KILLED", "FAILED") and began_ms < submission.attempt_ms


def _running(stage: Announced, run: StageRun, now_ms: float) -> StageView:
    epoch, epochs, fraction, metric = announced.progress(run.tags)
    seconds = look.seconds(run, now_ms=now_ms)
    return StageView(
        stage.name,
        stage.kind,
        stage.arms,
        "running",
        run_id=run.run_id,
        fraction=fraction,
        epoch=epoch,
        epochs=epochs,
        loss=run.metrics.get("loss"),
        metric=metric,
        images_per_s=run.metrics.get("images_per_s"),
        seconds=seconds,
        seconds_left=seconds * (1 - fraction) / fraction if fraction > SOON else stage.estimate_s,
    )


def _ended(stage: Announced, run: StageRun, submission: Submission, now_ms: float) -> StageView:
    is_ours = run.parent == submission.run_id
    state: StageState = "failed" if run.status == "FAILED" else "stopped" if run.status == "KILLED" else "done"
    shown = run.metrics.get(stage.shows)
    return StageView(
        stage.name,
        stage.kind,
        stage.arms,
        "reused" if state == "done" and not is_ours else state,
        run_id=run.run_id,
        metric=None if shown is None else (stage.shows, shown),
        seconds=look.seconds(run, now_ms=now_ms),
        note=run.tags.get(records.REASON, "") if state != "done" else "",
    )
