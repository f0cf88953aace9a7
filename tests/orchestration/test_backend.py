"""How a job ended is told from what Ray raises: an error of its own, a crash, or a node that was taken away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, WorkerCrashedError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError

from jobs.journal import Diverged
from jobs.preemption import Preempted
from orchestration import backend
from orchestration.backend import Ended

TAKEN = Preempted("a node is taken away; stopped after step 85 with a checkpoint")
RESET = RuntimeError("gloo: Read error [127.0.0.1]:1: Connection reset by peer. This is typical")


def died(*, preempted: bool) -> ActorDiedError:
    error = ActorDiedError()
    error._preempted = preempted
    return error


def group(*failures: Exception) -> WorkerGroupError:
    return WorkerGroupError("workers failed", dict(enumerate(failures)))


@pytest.mark.parametrize(
    ("cause", "crashed", "charged", "reason"),
    [
        (Diverged("the loss is nan"), False, True, "Diverged: the loss is nan"),
        (ValueError("batch: 3"), False, True, "ValueError: batch: 3"),
        (TAKEN, True, False, f"Preempted: {TAKEN}"),
        (WorkerCrashedError(), True, True, "WorkerCrashedError: "),
        (group(TAKEN, TAKEN), True, False, f"Preempted: {TAKEN}"),
        (group(RESET, TAKEN), True, False, f"Preempted: {TAKEN}"),
        (group(RESET, died(preempted=True)), True, False, "ActorDiedError: "),
        (group(RESET, died(preempted=False)), True, True, "RuntimeError: gloo"),
        (group(WorkerHealthCheckFailedError("gone", RESET)), True, True, "WorkerHealthCheckFailedError: "),
        (group(ValueError("batch: 3"), RESET), True, True, "RuntimeError: gloo"),
        (group(Diverged("the loss is nan")), False, True, "Diverged: the loss is nan"),
        (ControllerError(RuntimeError("lost")), True, True, "ControllerError: "),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), True, False, "its workers found no room"),
    ],
    ids=str,
)
def test_what_ray_raises(cause: Exception, crashed: bool, charged: bool, reason: str) -> None:
    ended = backend._from_task(SimpleNamespace(cause=cause))
    assert (ended.crashed, ended.charged) == (crashed, charged)
    assert ended.reason.startswith(reason)
    assert "\n" not in ended.reason


def test_a_good_end_says_nothing() -> None:
    assert Ended() == Ended(crashed=False, charged=True, reason="")
