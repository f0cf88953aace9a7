"""A sweep becomes finished trials: Ray Tune says which goes on, and all of them share one cluster and one store.

Every trial is a submission of its own, driven by the same steps as `submit` drives one; so what is finished is reused,
a stage is computed once whoever asks for it, and what a kill left goes on from its checkpoints.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestration import backend, folders, records, storage
from orchestration.cluster import job
from orchestration.errors import StoreError, Unanswered
from orchestration.folders import read_run, write_run
from orchestration.leases import BEAT_S, LEASE_S
from orchestration.progress import Snapshot
from orchestration.provenance import Owner
from orchestration.recorder import Recorder
from orchestration.records import Ending
from orchestration.stopping import CANCELLED, STOPPED, Cancelled, stoppable
from orchestration.storage import Home
from orchestration.sweep import records as sweep_records
from orchestration.sweep import search as sweep_search
from orchestration.sweep.ledger import KEPT, Asked, Entry, Ledger
from orchestration.sweep.options import NoScheduler
from orchestration.sweep.search import Search
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.trial_spec import Planner
from orchestration.sweep.trials import Desk, Trials
from orchestration.sweep.tune import Tuning
from orchestration.sweep.view import snapshot
from orchestration.tracking import Store
from orchestration.watch import watching

DRAW_S = 0.25  # between two pictures for the display
KEEP_S = 2.0  # between two notes of the ledger in the mirror
RETRY_S = 10.0  # before a store that did not answer is asked again
SPEND_S = 30.0  # between two notes of the time that was spent

Show = Callable[[Snapshot], None]


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What came of one command."""

    run_id: str  # of the sweep's MLflow run
    failed: tuple[str, ...] = ()  # "trial: reason" of each trial that failed
    stopped: bool = False  # by Ctrl-C, SIGTERM or `cancel`
    over: str = ""  # why it ended before its last trial, where its own budget ended it


class _HoursOver(Exception):
    """The budget of hours is spent."""


def run(sweep: SweepSpec, ledger: Ledger, planner: Planner, *, store: Store, home: Home, show: Show) -> SweepOutcome:
    """Run what is left of a sweep and return when all is finished or stopped.

    Raises: StoreError when another process drives it.
    """
    folders.require_mirror(home)
    with _alone(ledger, home):
        ledger.claim()
        begun = [entry for entry in ledger.entries.values() if entry.state not in KEPT]
        search = sweep_search.begin(sweep, ledger.entries.values(), again=begun)
        if not begun and len(ledger.entries) >= search.total:
            return SweepOutcome(_over(ledger, store))
        with stoppable(), ExitStack() as stack:
            cluster = stack.enter_context(backend.connect())
            run_id = _open(sweep, ledger, store)
            recorder = Recorder(store, run_id)
            stack.callback(recorder.close)
            trials = Trials(sweep, ledger, planner, Desk(cluster, store, home, recorder, run_id))
            cancelled = stack.enter_context(watching(store, run_id, recorder))
            with stoppable():  # again: Ray has set handlers of its own by now
                return _Drive(sweep, ledger, search, trials, show).run(cancelled)


@contextmanager
def _alone(ledger: Ledger, home: Home) -> Iterator[None]:
    name = ledger.folder.parent.name
    with ExitStack() as stack:
        try:
            stack.enter_context(storage.locked(ledger.lock, wait_s=1.0))  # a `status` holds it for a moment
            stack.enter_context(_claimed(home, ledger.run))
        except storage.Busy as error:
            hint = f"`leoclr-ops status {name}` shows it, `leoclr-ops cancel {name}` stops it"
            raise StoreError("another process runs this sweep", place=f"sweep {name}", hint=hint) from error
        folders.bring_sweeps(home, ledger.folder.parent)  # again: nobody else adds to it from now on
        yield


def _claimed(home: Home, memory: Path) -> ExitStack:
    """Hold a sweep for all hosts. A head that died is taken for alive for a while: it is waited for. Raises: Busy."""
    deadline = time.monotonic() + (LEASE_S + BEAT_S if home.mirror else 0)
    while True:
        with ExitStack() as stack:
            try:
                stack.enter_context(folders.claimed(home, memory))
                return stack.pop_all()
            except storage.Busy:
                if time.monotonic() > deadline:
                    raise
        time.sleep(1.0)


def _over(ledger: Ledger, store: Store) -> str:
    """Return the run of a sweep of which nothing is left; who sent this process to a cluster finds it as its own."""
    run_id = read_run(ledger.run) or ""
    if run_id and (sent := job.current()):
        now_ms = str(time.time_ns() // 1_000_000)
        store.set_tags(run_id, {records.JOB: sent.id, records.CLUSTER: sent.cluster, records.ATTEMPT_MS: now_ms})
    return run_id


def _open(sweep: SweepSpec, ledger: Ledger, store: Store) -> str:
    tags = sweep_records.sweep_tags(
        sweep.name, title=sweep.title, owner=Owner.current(), now_ms=time.time_ns() // 1_000_000
    )
    run_id = store.begin(tags, {"sweep.yaml": sweep.yaml}, resume=read_run(ledger.run))
    write_run(ledger.run, run_id)
    return run_id


class _Drive:
    """One command: the trials under way and the loop that moves them. Only `_ask` runs in Tune's thread."""

    def __init__(self, sweep: SweepSpec, ledger: Ledger, search: Search, trials: Trials, show: Show) -> None:
        self._sweep, self._ledger, self._search, self._trials, self._show = sweep, ledger, search, trials, show
        self._desk = trials.desk
        self._new: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._lock = threading.Lock()  # around the search
        self._closing = False
        self._at_once = sweep.concurrency or trials.at_once(search.peek())
        title, goal = next(iter(sweep.goals.items()))
        ledger.tell_about(total=search.total, at_once=self._at_once, objective=title, direction=goal.direction)
        self._began, self._spent_before = time.monotonic(), ledger.spent_s
        self._session = str(time.time_ns())
        self._asked: deque[Asked] = deque()  # and not open yet
        self._open_at, self._trouble = 0.0, ""
        self._drawn = self._noted = self._keep_at = 0.0
        self._size = 0  # of the ledger that the mirror has, in bytes

    def run(self, cancelled: threading.Event) -> SweepOutcome:
        """Run to the end, or until `cancelled`; every run that was begun is ended before Ray goes down.

        Tune takes seconds to end, and does so meanwhile: it is waited for last.
        """
        with ExitStack() as last:
            try:
                with self._tuning(last) as tuning:
                    self._loop(tuning, cancelled)
            except (KeyboardInterrupt, Cancelled) as wish:
                return self._close(stopped=CANCELLED if isinstance(wish, Cancelled) else STOPPED)
            except _HoursOver:
                return self._close(over=f"the budget of {self._sweep.budget.hours:g} hours is spent")
            except BaseException as error:
                self._trials.stop_all("its sweep failed")
                self._end("FAILED", f"{type(error).__name__}: {error}")
                raise
            return self._close()

    @contextmanager
    def _tuning(self, last: ExitStack) -> Iterator[Tuning]:
        tuning = Tuning(
            self._ask,
            self._sweep.scheduler,
            epochs=self._epochs(),
            concurrency=self._at_once,
            folder=self._ledger.folder / "tune",
        )
        last.callback(tuning.join)
        kept = [entry for entry in self._ledger.entries.values() if entry.state in KEPT]
        tuning.start((entry.number, entry.history, entry.state == "done") for entry in kept)
        try:
            yield tuning
        finally:
            self._closing = True
            tuning.stop()  # it asks for no more trials

    def _epochs(self) -> int:
        """Return how many epochs the watched stage has, in a trial like all others."""
        if isinstance(self._sweep.scheduler, NoScheduler):
            return 1
        return self._trials.epochs(self._search.peek(), self._sweep.scheduler.stage)

    def _ask(self) -> int | None:
        """Return the number of the next trial. Raises: NotYet."""
        with self._lock:
            asked = None if self._closing else self._search.ask()
        if asked is None:
            return None
        self._new.put(asked)
        return asked.number

    def _loop(self, tuning: Tuning, cancelled: threading.Event) -> None:
        while True:
            if cancelled.is_set():
                raise Cancelled
            is_over = tuning.is_over  # asked first: what it asked for before its end is in the queue now
            while not self._new.empty():
                self._asked.append(self._new.get())
            self._open_asked(tuning)
            while not tuning.over.empty():
                if stopped := self._trials.stop_early(tuning.over.get()):
                    self._settle(stopped)
            for entry in self._trials.move(tuning.report):
                self._settle(entry, tuning)
            if is_over and not self._trials.count and not self._asked and self._new.empty():
                return
            self._keep_time()
            self._trials.wait()

    def _open_asked(self, tuning: Tuning) -> None:
        """Open the trials that were asked for. Where a store does not answer, later: what runs goes on meanwhile."""
        while self._asked and time.monotonic() >= self._open_at:
            try:
                failed = self._trials.open(self._asked[0])
            except Unanswered as error:
                self._open_at, self._trouble = time.monotonic() + RETRY_S, str(error)
                return
            self._trouble = ""
            self._asked.popleft()
            if failed:
                self._settle(failed, tuning)

    def _settle(self, entry: Entry, tuning: Tuning | None = None) -> None:
        """Note how a trial ended; tell Tune too, unless it was Tune that ended it."""
        self._ledger.end(entry)
        with self._lock:
            self._search.tell(entry)
        if tuning:
            tuning.end(entry.number, entry.history[-1] if entry.history else None)

    def _keep_time(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= DRAW_S:
            self._drawn = now
            self._draw()
        if now - self._noted >= SPEND_S:
            self._noted = now
            self._ledger.spend(self._session, now - self._began)
        if now >= self._keep_at:
            self._keep()
        hours = self._sweep.budget.hours
        if hours is not None and self._spent_before + now - self._began >= hours * 3600:
            raise _HoursOver

    def _keep(self) -> None:
        """Let another head go on from here; where the mirror does not answer, the next time."""
        size, wait_s = self._ledger.size, KEEP_S
        if self._size != size:
            try:
                folders.keep_sweep(self._desk.home, self._ledger.folder)
                self._size = size
            except StoreError:
                wait_s = RETRY_S
        self._keep_at = time.monotonic() + wait_s

    def _draw(self) -> None:
        self._show(
            snapshot(
                self._sweep,
                self._ledger,
                self._trials.views(),
                total=self._search.total,
                run_id=self._desk.run_id,
                started=self._began,
                note=self._trouble or self._desk.recorder.trouble or folders.trouble(self._desk.home),
            )
        )

    def _close(self, *, stopped: str = "", over: str = "") -> SweepOutcome:
        self._draw()
        self._trials.stop_all(stopped or over)
        self._ledger.spend(self._session, time.monotonic() - self._began)
        self._keep()
        entries = self._ledger.entries.values()
        failed = tuple(f"trial {entry.number}: {entry.reason}" for entry in entries if entry.state == "failed")
        if stopped or over:
            self._end("KILLED", stopped or over)
        else:
            self._end("FAILED" if failed else "FINISHED", "; ".join(failed)[:2000])
        return SweepOutcome(self._desk.run_id, failed, bool(stopped), over)

    def _end(self, status: Ending, reason: str) -> None:
        with contextlib.suppress(StoreError):
            self._desk.store.end(self._desk.run_id, status, reason=reason)
