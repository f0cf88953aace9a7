"""A `Plan` becomes finished runs: what is ready starts when there is room, and nothing is computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from orchestration import backend
from orchestration.backend import Backend
from orchestration.plan import Plan
from orchestration.progress import Snapshot
from orchestration.recorder import Recorder
from orchestration.spec import PipelineSpec
from orchestration.stopping import stoppable
from orchestration.storage import Home
from orchestration.submission import STOPPED, Outcome, Submission
from orchestration.tracking import Store

POLL_S = 0.25  # between two looks at Ray; also how fast the display moves

Show = Callable[[Snapshot], None]


def submit(spec: PipelineSpec, plan: Plan, store: Store, home: Home, *, show: Show) -> Outcome:
    """Run what `plan` leaves to do, record it, and return when all is finished, failed or stopped.

    Whatever stops it, every run that was begun is ended before Ray goes down.
    Raises: LeoclrOpsError before anything starts when a stage can never fit the cluster.
    """
    submission, started = Submission(spec, plan, store=store, home=home), time.monotonic()
    with stoppable(), ExitStack() as stack:
        stack.callback(submission.release)
        cluster = stack.enter_context(backend.connect()) if submission.waiting else None
        if cluster:
            cluster.require_room(submission.waiting)
        recorder = Recorder(store, submission.open())
        stack.callback(recorder.close)

        def draw() -> None:
            show(Snapshot(plan.pipeline, submission.run_id, started, submission.views(), recorder.trouble))

        with stoppable():  # again: Ray has set handlers of its own by now
            return _run(submission, cluster, recorder, draw)


def _run(submission: Submission, cluster: Backend | None, recorder: Recorder, draw: Callable[[], None]) -> Outcome:
    try:
        submission.begin(recorder)
        if cluster:
            _loop(submission, cluster, draw)
    except KeyboardInterrupt:
        submission.stop(STOPPED)
        draw()
        return submission.close(stopped=STOPPED)
    except BaseException as error:
        submission.stop("its submission failed")
        submission.end(submission.run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    draw()
    return submission.close()


def _loop(submission: Submission, cluster: Backend, draw: Callable[[], None]) -> None:
    while submission.is_open:
        cpus, gpus = submission.held(cluster)
        submission.step(cluster, (cluster.cpus - cpus, cluster.gpus - gpus))
        draw()
        if not submission.handles:
            time.sleep(POLL_S)
            continue
        for handle, ended in cluster.ended(submission.handles, timeout_s=POLL_S).items():
            submission.finish(handle, ended)
