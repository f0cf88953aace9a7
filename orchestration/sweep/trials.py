"""The trials under way: each moves by its submission's steps, all within the CPUs and GPUs of one cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from orchestration.backend import Backend, Ended
from orchestration.errors import LeoclrOpsError, StoreError, Unanswered
from orchestration.plan import Plan
from orchestration.progress import StageView
from orchestration.recorder import Recorder
from orchestration.schedule import Held, Room, most_workers
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.submission import Submission
from orchestration.sweep import records as sweep_records
from orchestration.sweep.ledger import Asked, Entry, Ledger
from orchestration.sweep.options import NoScheduler
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.trial import Trial
from orchestration.sweep.trial_spec import Planner, labels
from orchestration.tracking import Store

POLL_S = 0.1  # between two looks at Ray
UNASKED = 100  # trials at once, at most, where nobody says how many
SOFT_S = 3.0  # for a stopped job to leave its process, before that is ended with it

Report = Callable[[int, int, float], None]  # trial, epoch, value of what is watched


@dataclass(frozen=True, slots=True)
class Desk:
    """What all trials share."""

    cluster: Backend
    store: Store
    home: Home
    recorder: Recorder
    run_id: str  # of the sweep


@dataclass(slots=True)
class _Leaving:
    """A job that was told to stop and still holds its resources."""

    held: Held
    since: float = field(default_factory=time.monotonic)
    forced: bool = False


class Trials:
    """Opens, moves and stops trials; what became of each is the caller's to note."""

    def __init__(self, sweep: SweepSpec, ledger: Ledger, planner: Planner, desk: Desk) -> None:
        self._sweep, self._ledger, self._planner, self.desk = sweep, ledger, planner, desk
        self._trials: dict[int, Trial] = {}
        self._leaving: dict[Any, _Leaving] = {}  # by Ray's handle

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._trials)

    def views(self) -> dict[int, StageView]:
        """Return the line of each trial under way, by number."""
        return {number: trial.view() for number, trial in self._trials.items()}

    def epochs(self, asked: Asked, stage: str) -> int:
        """Return how many epochs a stage of a trial has."""
        return int(self._planner.plan(asked)[0].arms[0].stages[stage].params_json.get("epochs", 1))

    def at_once(self, asked: Asked) -> int:
        """Return how many trials like this one have room at once, at least one, by the largest stage of each arm."""
        arms = self._planner.plan(asked)[0].arms
        asks = [replace(self.desk.cluster.ask(stage), placement="pack") for stage in arms[0].stages.values()]
        fitting = [most_workers(self.desk.cluster.nodes, each) // each.counts[-1] for each in asks if each.counts]
        return min(max(min(fitting, default=1) // len(arms), 1), UNASKED)

    def open(self, asked: Asked) -> Entry | None:
        """Open a trial's submission; where it cannot be planned or can never fit, return that it failed.

        Raises: Unanswered; to ask again is to go on.
        """
        number = asked.number
        try:
            pipeline, plan = self._planner.plan(asked)
            own = labels(self._sweep, asked)
            if number not in self._ledger.entries:
                self._ledger.make(asked, own)
            submission = self._open(pipeline, plan, number, own)
        except Unanswered:
            raise
        except LeoclrOpsError as error:
            if number not in self._ledger.entries:
                self._ledger.make(asked, labels(self._sweep, asked))
            return replace(self._ledger.entries[number], state="failed", reason=str(error))
        self.desk.recorder.alive.add(submission.run_id)
        self._trials[number] = Trial(self._sweep, asked, pipeline, plan, submission, own)
        return None

    def move(self, report: Report) -> Iterator[Entry]:
        """Move every trial one step; yield those that have ended."""
        room = Room(self.desk.cluster.nodes, self._held())
        for number, trial in list(self._trials.items()):
            if trial.submission.is_open:
                trial.submission.step(self.desk.cluster, room)
            for epoch, value in trial.look(self.desk.home):
                if not isinstance(self._sweep.scheduler, NoScheduler):
                    report(number, epoch, value)
            if not trial.submission.is_open and (entry := self._ended(trial)):
                yield entry

    def stop_early(self, number: int) -> Entry | None:
        """Stop a trial that its scheduler has ended; None where it ended by itself."""
        trial = self._trials.get(number)
        if trial is None or not trial.submission.is_open:
            return None
        epoch, value = trial.history[-1] if trial.history else (0, 0.0)
        watched = getattr(self._sweep.scheduler, "metric", "")
        reason = f"{self._sweep.scheduler.kind} at epoch {epoch}, {watched} {value:.4g}"
        entry = trial.entry("stopped", reason)
        trial.submission.drain()
        self._stop(trial, f"stopped by {reason}")
        with contextlib.suppress(StoreError):
            self.desk.store.set_tags(trial.submission.run_id, {sweep_records.STOPPED: reason})
        return entry

    def stop_all(self, reason: str) -> None:
        """Stop all that run; the next command goes on with them."""
        for trial in list(self._trials.values()):
            self._stop(trial, reason)

    def wait(self) -> None:
        """Wait a moment for the next job to end, and hand it to its trial."""
        owners = {handle: trial for trial in self._trials.values() for handle in trial.submission.handles}
        handles = [*owners, *self._leaving]
        if not handles:
            time.sleep(POLL_S / 2)
            return
        for handle, ended in self.desk.cluster.ended(handles, timeout_s=POLL_S).items():
            self._hand(handle, ended, owners)
        for handle, leaving in self._leaving.items():
            if not leaving.forced and time.monotonic() - leaving.since > SOFT_S:
                self.desk.cluster.stop(handle, force=True)
                leaving.forced = True

    def _open(self, pipeline: PipelineSpec, plan: Plan, number: int, own: dict[str, str]) -> Submission:
        tags = sweep_records.trial_tags(self._sweep.name, parent=self.desk.run_id, number=number, labels=own)
        known = self._ledger.entries[number].run_id  # also where the home that remembers it went with its head
        submission = Submission(pipeline, plan, store=self.desk.store, home=self.desk.home, tags=tags, resume=known)
        with ExitStack() as stack:
            stack.callback(submission.release)
            self.desk.cluster.require_room(submission.waiting)
            self._ledger.attach(number, submission.open())
            submission.begin(self.desk.recorder)
            stack.pop_all()
        return submission

    def _ended(self, trial: Trial) -> Entry | None:
        """Close a trial whose stages have all ended; None while the store does not answer."""
        try:
            entry = trial.ended(trial.submission.outcome(), self.desk.store)
        except StoreError:
            return None
        trial.submission.close()
        self._leave(trial)
        return entry

    def _stop(self, trial: Trial, reason: str) -> None:
        for handle, held in trial.submission.held().items():
            self.desk.cluster.stop(handle, force=False)
            self._leaving[handle] = _Leaving(held)
        trial.submission.stop(reason)
        trial.submission.close(stopped=reason)
        self._leave(trial)

    def _leave(self, trial: Trial) -> None:
        self.desk.recorder.alive.discard(trial.submission.run_id)
        del self._trials[trial.asked.number]

    def _held(self) -> Iterator[Held]:
        for trial in self._trials.values():
            yield from trial.submission.held().values()
        yield from (leaving.held for leaving in self._leaving.values())

    def _hand(self, handle: Any, ended: Ended, owners: dict[Any, Trial]) -> None:
        if handle in owners:
            owners[handle].submission.finish(handle, ended)
        else:
            del self._leaving[handle]
