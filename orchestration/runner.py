"""A `Plan` becomes finished runs: what is ready starts when there is room, and nothing is computed twice.

    ready    all that it needs is finished            locked   this process holds the stage's folder
    running  its Ray job is under way                 sealed   its result is whole on disk: the commit marker
    done     MLflow has all numbers and files of the sealed result, and says FINISHED

A crash at any point leaves one of these states, and the next submit goes on from it, in the same MLflow run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jobs
from jobs.contract import Job
from orchestration import backend, storage
from orchestration.backend import Backend, Ended
from orchestration.errors import StoreError
from orchestration.folders import StageFolder, read_run, write_run
from orchestration.plan import Plan, State
from orchestration.progress import Snapshot
from orchestration.recorder import Recorder
from orchestration.records import Ending
from orchestration.spec import PipelineSpec
from orchestration.stopping import stoppable
from orchestration.storage import Home
from orchestration.tracking import Store
from orchestration.underway import Underway, job_of

POLL_S = 0.25  # between two looks at Ray; also how fast the display moves
WAIT_S = 2.0  # between two looks at a stage that another submit is running
RETRY_S = 1.0  # before a crashed stage starts again

Show = Callable[[Snapshot], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a submission."""

    run_id: str  # of the submission's MLflow run
    failed: tuple[str, ...] = ()  # "stage arm: reason" of each stage that failed
    stopped: bool = False  # by Ctrl-C, SIGTERM or `cancel`


def submit(spec: PipelineSpec, plan: Plan, store: Store, home: Home, *, show: Show) -> Outcome:
    """Run what `plan` leaves to do, record it, and return when all is finished, failed or stopped.

    Raises: LeoclrOpsError before anything starts when a stage can never fit the cluster.
    """
    submission = _Submission(spec, plan, store, home, show)
    return submission.run()


class _Submission:
    """One submit: the stages, the recorder, and the loop that moves them."""

    def __init__(self, spec: PipelineSpec, plan: Plan, store: Store, home: Home, show: Show) -> None:
        self._spec, self._plan, self._store, self._home, self._show = spec, plan, store, home, show
        self._started = time.monotonic()
        self._labels = {arm.name: arm.labels for arm in spec.arms}
        self._stages = {
            planned.fingerprint: Underway(
                planned, "waiting" if planned.state is State.TODO else "reused", planned.run_id
            )
            for planned in plan.stages
        }
        self._jobs: dict[Any, Underway] = {}  # by Ray's handle
        self._claim = ExitStack()  # of the plan, so that two submits of it are two runs

    def run(self) -> Outcome:
        """Run to the end. Whatever stops it, every run that was begun is ended before Ray goes down."""
        with stoppable(), ExitStack() as stack:
            stack.callback(self._release)
            waiting = [stage.plan for stage in self._stages.values() if stage.state == "waiting"]
            cluster = stack.enter_context(backend.connect()) if waiting else None
            if cluster:
                cluster.require_room({plan.name: plan.spec.resources for plan in waiting})
            self._run_id = self._open()
            self._recorder = Recorder(self._store, self._run_id)
            stack.callback(self._recorder.close)
            with stoppable():  # again: Ray has set handlers of its own by now
                return self._run(cluster)

    def _run(self, cluster: Backend | None) -> Outcome:
        try:
            self._record_reused()
            if cluster:
                self._loop(cluster)
        except KeyboardInterrupt:
            self._stop("stopped by the user")
            return self._close(stopped=True)
        except BaseException as error:
            self._stop("its submission failed")
            self._end(self._run_id, "FAILED", f"{type(error).__name__}: {error}")
            raise
        self._draw()
        return self._close(stopped=False)

    def _release(self) -> None:
        for stage in self._stages.values():
            stage.lock.close()
        self._claim.close()

    def _open(self) -> str:
        """Open the submission's run: that of the same plan if it was interrupted, else a new one."""
        memory = self._home.submission(self._plan.fingerprint)
        try:
            self._claim.enter_context(storage.locked(memory.with_suffix(".lock")))
            mine = True
        except storage.Busy:  # another process runs the same plan: its run is not ours to continue
            mine = False
        run_id = self._store.begin_submission(
            self._plan,
            title=self._spec.title,
            spec_yaml=self._spec.yaml,
            arm_labels=self._labels,
            resume=read_run(memory) if mine else None,
        )
        if mine:
            write_run(memory, run_id)
        return run_id

    def _record_reused(self) -> None:
        for stage in self._stages.values():
            if stage.state == "reused" and stage.run_id:
                self._record(stage)

    def _close(self, *, stopped: bool) -> Outcome:
        failed = tuple(
            f"{stage.plan.name} {stage.plan.arms[0]}".rstrip() + f": {stage.note}"
            for stage in self._stages.values()
            if stage.state == "failed"
        )
        status: Ending = "KILLED" if stopped else "FAILED" if failed else "FINISHED"
        self._end(self._run_id, status, "; ".join(failed)[:2000] or ("stopped by the user" if stopped else ""))
        return Outcome(self._run_id, failed, stopped)

    def _end(self, run_id: str, status: Ending, reason: str) -> None:
        """End a run at once; where the store does not answer, the next look at it will (`reconcile`)."""
        with contextlib.suppress(StoreError):
            self._store.end(run_id, status, reason=reason)

    def _loop(self, cluster: Backend) -> None:
        while any(stage.is_open for stage in self._stages.values()):
            self._start_ready(cluster)
            for stage in self._stages.values():
                if stage.state in ("committing", "failing") and time.monotonic() >= stage.retry_at:
                    self._settle(stage)
            self._draw()
            if not self._jobs:
                time.sleep(POLL_S)
                continue
            for handle, ended in cluster.ended(list(self._jobs), timeout_s=POLL_S).items():
                self._finish(self._jobs.pop(handle), ended)

    def _start_ready(self, cluster: Backend) -> None:
        """Start the stages that are ready, in the plan's order, as far as the cluster has room."""
        held = [cluster.needs(stage.plan.spec.resources) for stage in self._jobs.values()]
        cpus, gpus = cluster.cpus - sum(cpu for cpu, _ in held), cluster.gpus - sum(gpu for _, gpu in held)
        for stage in self._stages.values():
            if stage.state not in ("waiting", "queued") or time.monotonic() < stage.retry_at:
                continue
            if not self._is_ready(stage):
                continue
            stage.state = "queued"
            need_cpus, need_gpus = cluster.needs(stage.plan.spec.resources)
            if need_cpus <= cpus and need_gpus <= gpus and (job := self._begin(stage)):
                self._jobs[cluster.start(job)] = stage
                cpus, gpus = cpus - need_cpus, gpus - need_gpus

    def _is_ready(self, stage: Underway) -> bool:
        """Return whether all that `stage` needs is finished; it is blocked when one of them failed."""
        states = {self._stages[needed].state for needed in stage.plan.inputs.values()}
        if states & {"failed", "blocked"}:
            stage.state, stage.note = "blocked", "what it needs failed"
        return states <= {"done", "reused"}

    def _begin(self, stage: Underway) -> Job | None:
        """Lock the stage's folder, open its run and return what to start; None where there is nothing to start now."""
        folder = StageFolder(self._home.stage(stage.plan.fingerprint))
        try:
            job = job_of(stage, self._stages, self._store, spec=self._spec, home=self._home)
            if not stage.crashes and not self._open_stage(stage, folder):
                return None
        except storage.Busy:
            stage.note, stage.retry_at = "another submit is running it", time.monotonic() + WAIT_S
            return None
        except StoreError as error:
            stage.lock.close()
            stage.wait(str(error))
            return None
        stage.state, stage.note, stage.tries = "running", "", 0
        return job

    def _open_stage(self, stage: Underway, folder: StageFolder) -> bool:
        """Take the stage's folder and its run; False when there is nothing left to compute."""
        stage.lock.enter_context(storage.locked(folder.lock))
        if self._reuse(stage):
            return False
        stage.run_id = self._store.begin_stage(
            stage.plan,
            parent=self._run_id,
            pipeline=self._plan.pipeline,
            arm_labels=self._labels[stage.plan.arms[0]],
            resume=folder.run_id() or stage.plan.resume,
        )
        folder.note_run(stage.run_id)
        self._record(stage)
        self._recorder.follow(stage.run_id, folder.path)
        stage.started = time.monotonic()
        if folder.sealed():  # a submit was killed between the end of the job and its recording
            stage.state, stage.retry_at = "committing", 0.0
            return False
        return True

    def _reuse(self, stage: Underway) -> bool:
        """Take over the run with which another submit has finished `stage` since this one was planned."""
        for past in self._store.past_runs(stage.plan.fingerprint):
            if past.reusable:
                stage.run_id = past.run_id
                self._record(stage)
                stage.end("reused", "")
                return True
        return False

    def _finish(self, stage: Underway, ended: Ended) -> None:
        """Record a stage whose job ended well, try a crashed one again, and give up on any other."""
        retries = stage.plan.spec.resources.max_failures
        if ended.crashed and stage.crashes < retries:
            stage.crashes += 1
            stage.state, stage.retry_at = "queued", time.monotonic() + RETRY_S
            stage.note = f"crashed ({ended.reason}); attempt {stage.crashes + 1} of {retries + 1}"
            return
        stage.state, stage.note = ("failing", ended.reason) if ended.reason else ("committing", "")
        self._settle(stage)

    def _settle(self, stage: Underway) -> None:
        """Bring how a stage ended to the store; later where that does not answer: it is safe on disk."""
        try:
            if stage.state == "committing":
                self._commit(stage)
            if stage.state == "failing":
                self._fail(stage)
        except StoreError as error:
            stage.wait(str(error))

    def _commit(self, stage: Underway) -> None:
        assert stage.run_id
        folder = StageFolder(self._home.stage(stage.plan.fingerprint))
        sealed = folder.sealed()
        if sealed is None:
            stage.state, stage.note = "failing", "its job ended without a whole result"
            return
        self._recorder.drain(stage.run_id)
        self._store.finish_stage(stage.run_id, metrics=sealed.metrics, result=sealed.folder, ended_ms=sealed.ended_ms)
        folder.drop_result()
        shown = jobs.module(stage.plan.kind).METRICS[0].name
        stage.metric = next(
            ((name, sealed.metrics[name]) for name in (shown, *sealed.metrics) if name in sealed.metrics), None
        )
        stage.end("done", "")

    def _fail(self, stage: Underway) -> None:
        assert stage.run_id
        reason = stage.failure = stage.failure or stage.note
        self._recorder.drain(stage.run_id)
        self._store.end(stage.run_id, "FAILED", reason=reason)
        stage.end("failed", reason)

    def _stop(self, reason: str) -> None:
        """End every run that was begun as KILLED; their checkpoints and journals stay for the next submit."""
        for stage in self._stages.values():
            if stage.is_open and stage.run_id:  # also one that crashed and waits for its next attempt
                self._end(stage.run_id, "KILLED", reason)
                stage.end("stopped", "")
        self._draw()

    def _record(self, stage: Underway) -> None:
        assert stage.run_id
        for arm in stage.plan.arms:
            self._store.record_arm(self._run_id, arm, stage.plan.name, stage.run_id)

    def _draw(self) -> None:
        views = tuple(stage.view(self._recorder.progress(stage.run_id)) for stage in self._stages.values())
        self._show(Snapshot(self._plan.pipeline, self._run_id, self._started, views, self._recorder.trouble))
