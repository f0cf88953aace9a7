"""A submission under way: the stages of a plan, what becomes of each, and the step that moves them.

    ready    all that it needs is finished            locked   this process holds the stage's folder
    running  its Ray job is under way                 sealed   its result is whole on disk: the commit marker
    done     MLflow has all numbers and files of the sealed result, and says FINISHED

A crash at any point leaves one of these states, and the next submit goes on from it, in the same MLflow run. Whoever
drives a submission calls `open`, `begin`, `step` and `finish` while `is_open`, then `close`; before that also `stop`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jobs.contract import Job
from orchestration import describing, naming, records, storage
from orchestration.backend import Backend, Ended
from orchestration.errors import LeoclrOpsError, StoreError, Unanswered
from orchestration.folders import StageFolder, claimed, note_submission, read_run
from orchestration.plan import Plan
from orchestration.progress import Outcome, StageView
from orchestration.recorder import Recorder
from orchestration.records import Ending
from orchestration.schedule import Held, Room, never_fits, total
from orchestration.settling import Settling
from orchestration.silence import Silence
from orchestration.spec import PipelineSpec, StageSpec
from orchestration.storage import Home
from orchestration.tracking import Store
from orchestration.underway import Underway, context_of, job_of


class Submission:
    """One submit; `tags` are those that its run has besides its own, such as the sweep that it is a trial of.

    `resume` is the run to continue; None: the one that the home remembers, if it was interrupted.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        plan: Plan,
        *,
        store: Store,
        home: Home,
        tags: Mapping[str, str] | None = None,
        resume: str | None = None,
    ) -> None:
        self._spec, self._plan, self._store, self._home = spec, plan, store, home
        self._tags, self._resume = tags or {}, resume
        self._labels = {arm.name: arm.labels for arm in spec.arms}
        self._stages = {planned.fingerprint: Underway.of(planned) for planned in plan.stages}
        self._jobs: dict[Any, Underway] = {}  # by Ray's handle
        self._silence = Silence(far=bool(home.mirror))
        self._claim = ExitStack()  # of the plan, whose run one process continues
        self._claimed = False
        self.run_id = ""

    @property
    def _memory(self) -> Path:
        return self._home.submission(self._plan.fingerprint)

    @property
    def waiting(self) -> list[StageSpec]:
        """The stages that are still to run."""
        return [stage.plan.spec for stage in self._stages.values() if stage.state == "waiting"]

    @property
    def is_open(self) -> bool:
        """Whether something is still to come."""
        return any(stage.is_open for stage in self._stages.values())

    @property
    def handles(self) -> list[Any]:
        """Ray's handles of the jobs under way."""
        return list(self._jobs)

    def held(self) -> dict[Any, Held]:
        """Return what each job under way holds, by Ray's handle."""
        return {handle: stage.holds(self._recorder.progress(stage.run_id)) for handle, stage in self._jobs.items()}

    def waits_for(self, cluster: Backend) -> str:
        """Return in words that nodes are to come for the jobs under way; "" where they are there."""
        return cluster.lacks(total(held.size for held in self.held().values()))

    def views(self) -> tuple[StageView, ...]:
        """Return what the display shows of each stage."""
        return tuple(stage.view(self._recorder.progress(stage.run_id)) for stage in self._stages.values())

    def release(self) -> None:
        """Let go of all folders."""
        for stage in self._stages.values():
            stage.lock.close()
        self._claim.close()

    def claim(self) -> None:
        """Keep the plan from all other processes. Raises: Busy where one of them runs it."""
        if not self._claimed:
            self._claim.enter_context(claimed(self._home, self._memory))
            self._claimed = True

    def open(self) -> str:
        """Open the submission's run, and return it: that of the same plan if it was interrupted, else a new one."""
        with contextlib.suppress(storage.Busy):  # two trials of a plan share its stages: one run is not ours
            self.claim()
        run_id = self._store.begin_submission(
            self._plan,
            title=self._spec.title,
            spec_yaml=self._spec.yaml,
            arm_labels=self._labels,
            resume=self._resume or (read_run(self._memory) if self._claimed else None),
            extra=self._tags,
        )
        if self._claimed:
            note_submission(self._home, self._memory, run_id)
        self.run_id = run_id
        return run_id

    def begin(self, recorder: Recorder) -> None:
        """Take the recorder that carries the numbers of its stages, and note what is reused."""
        self._recorder = recorder
        self._settling = Settling(self._store, self._home, recorder)
        for stage in self._stages.values():
            if stage.state == "reused" and stage.run_id:
                self._record(stage)

    def outcome(self, *, stopped: bool = False) -> Outcome:
        """Return what came of it."""
        failed = [stage for stage in self._stages.values() if stage.state == "failed"]
        return Outcome(self.run_id, tuple(f"{stage.title}: {stage.note}" for stage in failed), stopped)

    def close(self, *, stopped: str = "") -> Outcome:
        """End the submission's run, as `stopped` for that reason, failed or finished; let go of all folders."""
        outcome = self.outcome(stopped=bool(stopped))
        status: Ending = "KILLED" if stopped else "FAILED" if outcome.failed else "FINISHED"
        with contextlib.suppress(LeoclrOpsError):  # the next look ends it; a wrong table is told when it is printed
            self._store.end(self.run_id, status, reason="; ".join(outcome.failed)[:2000] or stopped)
            describing.describe(self._spec, self._store, self.run_id, is_trial=records.SWEEP in self._tags)
        self.release()
        return outcome

    def end(self, run_id: str, status: Ending, reason: str) -> None:
        """End a run at once; where the store does not answer, the next look at it will (`reconcile`)."""
        with contextlib.suppress(StoreError):
            self._store.end(run_id, status, reason=reason)

    def step(self, cluster: Backend, room: Room) -> None:
        """Start what is ready and has room; bring to the store what has ended; end what is frozen."""
        self._start_ready(cluster, room)
        running = [stage.plan for stage in self._jobs.values()]
        self._silence.look({self._home.work(p.fingerprint): p.spec.resources.hang_after_s for p in running})
        for stage in self._stages.values():
            if stage.state in ("committing", "failing") and time.monotonic() >= stage.retry_at:
                self._settling.settle(stage)

    def finish(self, handle: Any, ended: Ended) -> None:
        """Take note that a job has ended: record one that ended well, try a crashed one again, give up on any other."""
        stage = self._jobs.pop(handle)
        if stage.tries_again(ended):
            return
        stage.state, stage.note = ("failing", ended.reason) if ended.reason else ("committing", "")
        self._settling.settle(stage)

    def _start_ready(self, cluster: Backend, room: Room) -> None:
        """Start the stages that are ready, in the plan's order, as far as there is room."""
        for stage in self._stages.values():
            if stage.state not in ("waiting", "queued") or time.monotonic() < stage.retry_at:
                continue
            if not self._is_ready(stage):
                continue
            stage.state = "queued"
            ask = cluster.ask(stage.plan.spec, stage.plan.estimate_s, stage.trials)
            if room.lacks_nodes(ask):
                stage.note = f"waits for nodes: {never_fits(cluster.nodes, ask)}"
            elif grant := room.admit(stage.plan.fingerprint, ask):
                stage.give(ask, grant)
                if job := self._begin(stage):
                    self._jobs[cluster.start(job, ask)] = stage

    def _is_ready(self, stage: Underway) -> bool:
        """Return whether all that `stage` needs is finished; it is blocked when one of them failed."""
        states = {self._stages[needed].state for needed in stage.plan.inputs.values()}
        if states & {"failed", "blocked"}:
            stage.state, stage.note = "blocked", "what it needs failed"
        return states <= {"done", "reused"}

    def _begin(self, stage: Underway) -> Job | None:
        """Lock the stage's folder, open its run and return what to start; None where there is nothing to start now."""
        folder = StageFolder.of(self._home, stage.plan.fingerprint)
        try:
            job = job_of(stage, self._stages, self._store, spec=self._spec, home=self._home)
            if not stage.begun and not self._open_stage(stage, folder):
                return None
        except storage.Busy:
            stage.leave("another submit is running it")
            return None
        except Unanswered as error:
            stage.lock.close()
            stage.begun = False
            stage.wait(str(error))
            return None
        except StoreError as error:
            self._settling.give_up(stage, error)
            return None
        stage.state, stage.note, stage.tries = "running", "", 0
        return job

    def _open_stage(self, stage: Underway, folder: StageFolder) -> bool:
        """Take the stage's folder and its run; False when there is nothing left to compute."""
        stage.lock.enter_context(folder.held())
        if self._reuse(stage):
            return False
        stage.run_id = self._store.begin_stage(
            stage.plan,
            parent=self.run_id,
            pipeline=self._plan.pipeline,
            arm_labels=self._labels[stage.plan.arms[0]],
            resume=folder.run_id() or stage.plan.resume,
            context=context_of(stage, self._stages, naming.axes_of(self._tags, records.AXIS)),
        )
        folder.note_run(stage.run_id)
        self._record(stage)
        self._recorder.follow(stage.run_id, folder.path)
        stage.started, stage.begun = time.monotonic(), True
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

    def drain(self) -> None:
        """Carry over what the running stages have written so far, where the store answers."""
        for stage in self._stages.values():
            if stage.state == "running" and stage.run_id:
                with contextlib.suppress(StoreError):
                    StageFolder.of(self._home, stage.plan.fingerprint).confirmed()
                    self._recorder.drain(stage.run_id)

    def run_of(self, arm: str, stage: str) -> str | None:
        """Return the run that serves a stage of an arm, once it has one."""
        return self._stages[self._plan.arms[arm][stage]].run_id

    def stop(self, reason: str) -> None:
        """End every run that was begun as KILLED; their checkpoints and journals stay for the next submit."""
        for stage in self._stages.values():
            if stage.is_open and stage.run_id:  # also one that crashed and waits for its next attempt
                self.end(stage.run_id, "KILLED", reason)
                stage.end("stopped", "")

    def _record(self, stage: Underway) -> None:
        assert stage.run_id
        for arm in stage.plan.arms:
            self._store.record_arm(self.run_id, arm, stage.plan.name, stage.run_id)
