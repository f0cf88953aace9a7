"""A `Plan` becomes finished runs: what is ready starts when there is room, and nothing is computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event

from orchestration import backend, folders
from orchestration.backend import Backend
from orchestration.plan import Plan
from orchestration.progress import Outcome, Snapshot
from orchestration.recorder import Recorder
from orchestration.schedule import Room
from orchestration.spec import PipelineSpec
from orchestration.stopping import CANCELLED, STOPPED, Cancelled, stoppable
from orchestration.storage import Home
from orchestration.submission import Submission
from orchestration.tracking import Store
from orchestration.watch import watching

POLL_S = 0.25  # between two looks at Ray; also how fast the display moves

Show = Callable[[Snapshot], None]


def submit(
    spec: PipelineSpec, plan: Plan, store: Store, home: Home, *, show: Show, resume: str | None = None
) -> Outcome:
    """Run what `plan` leaves to do, record it, and return when all is finished, failed or stopped.

    Whatever stops it, every run that was begun is ended before Ray goes down. `resume` is the submission's run to
    continue; None: the one that this home remembers.
    Raises: Busy where another process runs the plan; LeoclrOpsError before anything starts when a stage can never fit
        the cluster.
    """
    submission = Submission(spec, plan, store=store, home=home, resume=resume)
    started = time.monotonic()
    folders.require_mirror(home)
    with stoppable(), ExitStack() as stack:
        stack.callback(submission.release)
        submission.claim()
        cluster = stack.enter_context(backend.connect()) if submission.waiting else None
        if cluster:
            cluster.require_room(submission.waiting)
        recorder = Recorder(store, submission.open())
        stack.callback(recorder.close)

        def draw() -> None:
            note = recorder.trouble or folders.trouble(home) or (submission.waits_for(cluster) if cluster else "")
            show(Snapshot(plan.pipeline, submission.run_id, started, submission.views(), note))

        cancelled = stack.enter_context(watching(store, submission.run_id, recorder))
        with stoppable():  # again: Ray has set handlers of its own by now
            return _run(submission, cluster, recorder=recorder, draw=draw, cancelled=cancelled)


def _run(
    submission: Submission,
    cluster: Backend | None,
    *,
    recorder: Recorder,
    draw: Callable[[], None],
    cancelled: Event,
) -> Outcome:
    try:
        submission.begin(recorder)
        if cluster:
            _loop(submission, cluster, draw=draw, cancelled=cancelled)
    except (KeyboardInterrupt, Cancelled) as wish:
        reason = CANCELLED if isinstance(wish, Cancelled) else STOPPED
        submission.stop(reason)
        draw()
        return submission.close(stopped=reason)
    except BaseException as error:
        submission.stop("its submission failed")
        submission.end(submission.run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    draw()
    return submission.close()


def _loop(submission: Submission, cluster: Backend, *, draw: Callable[[], None], cancelled: Event) -> None:
    while submission.is_open:
        if cancelled.is_set():
            raise Cancelled
        submission.step(cluster, Room(cluster.nodes, submission.held().values()))
        draw()
        if not submission.handles:
            time.sleep(POLL_S)
            continue
        for handle, ended in cluster.ended(submission.handles, timeout_s=POLL_S).items():
            submission.finish(handle, ended)
