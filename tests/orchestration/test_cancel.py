import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from orchestration import cancel as stopping
from orchestration.cancel import cancel, end_tree
from orchestration.errors import LeoclrOpsError, NotFound, StoreError
from orchestration.records import StageRun, Status, Submission

POLITE = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("up", flush=True)
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def start(program: str, started: list[subprocess.Popen[str]]) -> psutil.Process:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return psutil.Process(process.pid)


def test_the_process_and_its_orphans_are_gone(started: list[subprocess.Popen[str]]) -> None:
    owner = start(POLITE, started)
    (child,) = owner.children()
    began = time.monotonic()
    assert end_tree(owner, grace_s=10.0) == 1  # SIGTERM ends the owner at once; its orphan has to be killed
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert started[0].wait(1) == -15
    assert time.monotonic() - began < 8


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(started: list[subprocess.Popen[str]]) -> None:
    owner = start(DEAF, started)
    assert end_tree(owner, grace_s=0.2) == 1
    assert not owner.is_running()


@dataclass
class FakeStore:
    """The part of Store that cancelling uses, in memory."""

    found: list[Submission]
    ended: list[str] = field(default_factory=list)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    hears: bool = False  # the driver on the other machine

    def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self.tags[run_id] = tags
        if self.hears:
            self.ended.append(run_id)

    def status(self, run_id: str) -> str:
        return "KILLED" if run_id in self.ended else "RUNNING"

    def sweep(self, run_id: str) -> Submission | None:
        return None

    def submissions(self, *, running: bool) -> list[Submission]:
        return [each for each in self.found if (each.status == "RUNNING") == running]

    def submission(self, run_id: str) -> Submission | None:
        return next((each for each in self.found if each.run_id == run_id), None)

    def running(self) -> tuple[list[Submission], list[StageRun]]:
        return [each for each in self.found if each.status == "RUNNING" and each.run_id not in self.ended], []

    def stage_runs(self, run_ids: list[str]) -> dict[str, StageRun]:
        return {"cccc": StageRun("cccc", "linear", "linear", "leoclr", "RUNNING", {}, {}, {}, 0, None, "aaaa")}

    def find(self, reference: str) -> str:
        return reference

    def end(self, run_id: str, status: Status, *, reason: str = "", **_: int | None) -> None:
        self.ended.append(run_id)


def submission(run_id: str, owner: psutil.Process, *, status: Status = "RUNNING", host: str = "") -> Submission:
    arms = {"leoclr": {"linear": "cccc"}}
    now_ms = int(time.time() * 1000)
    place = (host or socket.gethostname(), owner.pid, owner.create_time(), now_ms)
    return Submission(run_id, "quickstart", "t", status, now_ms, None, now_ms, arms, {}, *place)


def test_cancel_stops_the_only_submission_that_runs(started: list[subprocess.Popen[str]]) -> None:
    owner = start(POLITE, started)
    store = FakeStore([submission("aaaa", owner), submission("bbbb", owner, status="FINISHED")])
    stopped = cancel(store)  # type: ignore[arg-type]  # a fake
    assert (stopped.run_id, stopped.pipeline, stopped.stages) == ("aaaa", "quickstart", ("linear leoclr",))
    assert started[0].wait(1) == -15
    assert store.ended == ["aaaa"]  # it ended without a word, and was reconciled


def test_cancel_refuses_what_it_cannot_stop() -> None:
    me = psutil.Process()
    with pytest.raises(NotFound, match="nothing is running"):
        cancel(FakeStore([submission("aaaa", me, status="FINISHED")]))  # type: ignore[arg-type]  # a fake
    with pytest.raises(NotFound, match="does not run: done"):
        cancel(FakeStore([submission("aaaa", me, status="FINISHED")]), "aaaa")  # type: ignore[arg-type]  # a fake
    with pytest.raises(NotFound, match="only a whole submission"):
        cancel(FakeStore([submission("aaaa", me)]), "cccc")  # type: ignore[arg-type]  # a fake
    with pytest.raises(LeoclrOpsError, match="2 submissions are running"):
        cancel(FakeStore([submission("aaaa", me), submission("bbbb", me)]))  # type: ignore[arg-type]  # a fake


def test_a_driver_on_another_machine_is_asked_through_the_store() -> None:
    there = submission("aaaa", psutil.Process(), host="elsewhere")
    store = FakeStore([there], hears=True)
    assert cancel(store, "aaaa").killed == 0  # type: ignore[arg-type]  # a fake
    assert store.tags == {"aaaa": {"leoclr.cancel": str(there.attempt_ms)}}


def test_a_driver_that_does_not_answer_is_ended_by_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ASKED_S", 0.1)
    store = FakeStore([submission("aaaa", psutil.Process(), host="elsewhere")])
    with pytest.raises(StoreError, match="elsewhere was asked .* does not answer"):
        cancel(store, "aaaa", otherwise=lambda _: False)  # type: ignore[arg-type]  # a fake

    def stop(asked: Submission) -> bool:
        store.ended.append(asked.run_id)
        return True

    assert cancel(store, "aaaa", otherwise=stop).run_id == "aaaa"  # type: ignore[arg-type]  # a fake
