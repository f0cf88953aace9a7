"""A `Plan` becomes finished runs: what is ready starts when there is room, and nothing is computed twice.

    ready    all that it needs is finished            locked   this process holds the stage's folder
    running  its Ray job is under way                 sealed   its result is whole on disk: the commit marker
    done     MLflow has all numbers and files of the sealed result, and says FINISHED

A crash at any point leaves one of these states, and the next submit goes on from it, in the same MLflow run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs
from jobs.contract import Job
from jobs.inputs import BACKBONE
from leoclr import checkpoint
from orchestration import backend, storage
from orchestration.backend import Backend, Ended
from orchestration.errors import StoreError
from orchestration.plan import Plan, State
from orchestration.progress import Snapshot, StageState
from orchestration.recorder import Recorder
from orchestration.records import Ending
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store
from orchestration.underway import Underway

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
        """Run to the end; a stop from outside ends every run of ours as KILLED before Ray goes down."""
        self._run_id = self._open()
        self._record_reused()
        self._recorder = Recorder(self._store, self._run_id)
        stopped = False
        try:
            if any(stage.state == "waiting" for stage in self._stages.values()):
                with backend.connect() as cluster, _stoppable():
                    try:
                        self._loop(cluster)
                    except KeyboardInterrupt:
                        stopped = True
                        self._stop("stopped by the user")
            self._draw()
        finally:
            self._recorder.close()
            for stage in self._stages.values():
                stage.lock.close()
        outcome = self._close(stopped)
        self._claim.close()
        return outcome

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
            resume=_read_run(memory) if mine else None,
        )
        if mine:
            storage.write_atomic(memory, json.dumps({"run_id": run_id}))
        return run_id

    def _record_reused(self) -> None:
        for stage in self._stages.values():
            if stage.state == "reused" and stage.run_id:
                self._record(stage)

    def _close(self, stopped: bool) -> Outcome:
        failed = tuple(
            f"{stage.plan.name} {stage.plan.arms[0]}".rstrip() + f": {stage.note}"
            for stage in self._stages.values()
            if stage.state == "failed"
        )
        status: Ending = "KILLED" if stopped else "FAILED" if failed else "FINISHED"
        self._store.end(self._run_id, status, reason="; ".join(failed)[:2000] or ("stopped" if stopped else ""))
        return Outcome(self._run_id, failed, stopped)

    def _loop(self, cluster: Backend) -> None:
        for stage in self._stages.values():
            if stage.state == "waiting":
                cluster.require_room(stage.plan.name, stage.plan.spec.resources)
        while any(stage.is_open for stage in self._stages.values()):
            self._start_ready(cluster)
            for stage in self._stages.values():
                if stage.state == "committing" and time.monotonic() >= stage.retry_at:
                    self._commit(stage)
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
            if need_cpus <= cpus and need_gpus <= gpus and self._begin(stage):
                self._jobs[cluster.start(self._job(stage))] = stage
                cpus, gpus = cpus - need_cpus, gpus - need_gpus

    def _is_ready(self, stage: Underway) -> bool:
        """Return whether all that `stage` needs is finished; it is blocked when one of them failed."""
        states = {self._stages[needed].state for needed in stage.plan.inputs.values()}
        if states & {"failed", "blocked"}:
            stage.state, stage.note = "blocked", "what it needs failed"
        return states <= {"done", "reused"}

    def _begin(self, stage: Underway) -> bool:
        """Lock the stage's folder and open its run; False when another submit holds it, or has finished it."""
        folder = self._home.stage(stage.plan.fingerprint)
        if not stage.crashes:
            try:
                stage.lock.enter_context(storage.locked(folder / "lock"))
            except storage.Busy:
                stage.note, stage.retry_at = "another submit is running it", time.monotonic() + WAIT_S
                return False
            if self._reuse(stage):
                return False
            noted = _read_run(folder / "run.json") or stage.plan.resume
            stage.run_id = self._store.begin_stage(
                stage.plan,
                parent=self._run_id,
                pipeline=self._plan.pipeline,
                arm_labels=self._labels[stage.plan.arms[0]],
                resume=noted,
            )
            if stage.run_id != noted:
                _forget(folder)
            storage.write_atomic(folder / "run.json", json.dumps({"run_id": stage.run_id}))
            self._record(stage)
            self._recorder.follow(stage.run_id, folder)
            stage.started = time.monotonic()
        stage.state, stage.note = "running", ""
        return True

    def _reuse(self, stage: Underway) -> bool:
        """Take over the run with which another submit has finished `stage` since this one was planned."""
        for past in self._store.past_runs(stage.plan.fingerprint):
            if past.reusable:
                stage.state, stage.note, stage.run_id = "reused", "", past.run_id
                stage.lock.close()
                self._record(stage)
                return True
        return False

    def _finish(self, stage: Underway, ended: Ended) -> None:
        """Commit a stage whose job ended well, try a crashed one again, and give up on any other."""
        assert stage.run_id
        if ended.reason:
            retries = stage.plan.spec.resources.max_failures
            if ended.crashed and stage.crashes < retries:
                stage.crashes += 1
                stage.state, stage.retry_at = "queued", time.monotonic() + RETRY_S
                stage.note = f"crashed ({ended.reason}); attempt {stage.crashes + 1} of {retries + 1}"
                return
            self._fail(stage, ended.reason)
        else:
            self._commit(stage)

    def _commit(self, stage: Underway) -> None:
        """Bring a sealed result to the tracking store; later where that does not answer: it is safe on disk."""
        assert stage.run_id
        folder = self._home.stage(stage.plan.fingerprint)
        if not checkpoint.sealed(folder / "result", fingerprint=stage.plan.fingerprint):
            self._fail(stage, "its job ended without a whole result")
            return
        metrics = json.loads((folder / "result" / "metrics.json").read_text())
        try:
            self._recorder.drain(stage.run_id)
            self._store.finish_stage(
                stage.run_id, metrics=metrics, result=folder / "result", ended_ms=time.time_ns() // 1_000_000
            )
        except StoreError as error:
            stage.state, stage.note, stage.retry_at = "committing", str(error), time.monotonic() + WAIT_S
            return
        shown = jobs.module(stage.plan.kind).METRICS[0].name
        stage.metric = (shown, metrics[shown]) if shown in metrics else next(iter(metrics.items()), None)
        self._settle(stage, "done")
        shutil.rmtree(folder / "result", ignore_errors=True)  # MLflow has it now; log, journal and run id stay

    def _fail(self, stage: Underway, reason: str) -> None:
        assert stage.run_id
        stage.note = reason
        with contextlib.suppress(StoreError):  # the numbers stay in the journal; the failure is told all the same
            self._recorder.drain(stage.run_id)
        self._store.end(stage.run_id, "FAILED", reason=reason)
        self._settle(stage, "failed")

    def _settle(self, stage: Underway, state: StageState) -> None:
        stage.state, stage.seconds = state, time.monotonic() - stage.started
        stage.lock.close()

    def _stop(self, reason: str) -> None:
        """End every run that was begun as KILLED; their checkpoints and journals stay for the next submit."""
        for stage in self._stages.values():
            if stage.is_open and stage.run_id:  # also one that crashed and waits for its next attempt
                self._store.end(stage.run_id, "KILLED", reason=reason)
                self._settle(stage, "stopped")
        self._draw()

    def _record(self, stage: Underway) -> None:
        assert stage.run_id
        for arm in stage.plan.arms:
            self._store.record_arm(self._run_id, arm, stage.plan.name, stage.run_id)

    def _job(self, stage: Underway) -> Job:
        plan, inputs = stage.plan, {}
        for needed in plan.inputs.values():
            upstream = self._stages[needed]
            if upstream.state in ("done", "reused") and upstream.run_id and upstream.plan.kind == "pretrain":
                inputs[upstream.plan.kind] = str(self._store.fetch(upstream.run_id, BACKBONE))
        dataset = plan.spec.params.dataset
        return Job(
            stage=plan.name,
            kind=plan.kind,
            fingerprint=plan.fingerprint,
            params=dict(plan.spec.params_json),
            resources=plan.spec.resources,
            folder=str(self._home.stage(plan.fingerprint)),
            inputs=inputs,
            data_root=str(self._spec.data.get(dataset, self._home.data(dataset))),
        )

    def _draw(self) -> None:
        views = tuple(stage.view(self._recorder.progress(stage.run_id)) for stage in self._stages.values())
        self._show(Snapshot(self._plan.pipeline, self._run_id, self._started, views, self._recorder.trouble))


def _read_run(path: Path) -> str | None:
    """Return the run id noted in `path`, or None."""
    try:
        noted: Mapping[str, str] = json.loads(path.read_text())
        return noted["run_id"]
    except (FileNotFoundError, ValueError, KeyError):  # never opened, or torn by a crash while it was
        return None


def _forget(folder: Path) -> None:
    """Make the folder ready for a new run, which gets the whole history; it begins anew where no checkpoint is left."""
    (folder / "journal.sent").unlink(missing_ok=True)
    if not (folder / "checkpoints").exists() and not (folder / "result").exists():
        (folder / "journal.jsonl").unlink(missing_ok=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C is, so that both end runs the same way. Ray has set handlers of its own by now."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
