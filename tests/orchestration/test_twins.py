"""The same pipeline submitted twice at once: one process runs it, the other one shows that, and is its heir."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from jobs.contract import Job
from orchestration import attach, cli_runs, reconcile, records, runner, spec
from orchestration.backend import Ended
from orchestration.errors import LeoclrOpsError
from orchestration.progress import Outcome
from orchestration.stopping import CANCELLED, STOPPED
from orchestration.storage import Busy, Home
from orchestration.submission import Submission
from orchestration.tracking import Store
from tests.orchestration.test_runner import ALL, Desk, Double, cluster, desk, finish

__all__ = ["cluster", "desk"]


@pytest.fixture(autouse=True)
def hasty(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(home.path))
    monkeypatch.setattr(runner, "stoppable", contextlib.nullcontext)  # signals are the main thread's
    monkeypatch.setattr(attach, "POLL_S", 0.05)
    monkeypatch.setattr(attach._Watched, "poll_s", 0.05)
    monkeypatch.setattr(cli_runs, "LOOK_S", 0.05)


@pytest.fixture
def first(desk: Desk, cluster: Double) -> Iterator[threading.Event]:
    """A submission in another thread, which goes on when the event is set."""
    begun, on = threading.Event(), threading.Event()

    def wait(job: Job) -> Ended:
        begun.set()
        assert on.wait(60)
        return finish(job)

    cluster.scripts["pretrain", 0] = [wait]
    thread = threading.Thread(target=desk.submit)
    thread.start()
    assert begun.wait(60)
    yield on
    on.set()
    thread.join(60)


def test_the_second_shows_the_first(
    desk: Desk,
    cluster: Double,
    first: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow = attach.follow

    def and_go_on(store: Store, run_id: str, show: attach.Show) -> Outcome:
        first.set()
        return follow(store, run_id, show)

    monkeypatch.setattr(attach, "follow", and_go_on)
    outcome, _ = cli_runs.run(spec.load(str(desk.file)))
    assert f"run {outcome.run_id[:8]} does the same already: this shows it" in capsys.readouterr().err
    assert not outcome.failed
    assert len(desk.store.submissions()) == 1
    assert sorted(cluster.started) == sorted(ALL)


def test_a_job_of_a_cluster_shows_nobody_else_s_run(
    desk: Desk, first: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    (running,) = desk.store.submissions()
    monkeypatch.setenv("LEOCLR_OPS_JOB", "p-0a1b-2")
    with pytest.raises(LeoclrOpsError, match=f"run {running.run_id[:8]} does the same already") as caught:
        cli_runs.run(spec.load(str(desk.file)))
    assert caught.value.hint == f"leoclr-ops attach {running.run_id[:8]}"


@pytest.mark.parametrize("lives", [True, False])
def test_who_has_a_lease_may_be_a_lost_head(desk: Desk, monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    loaded, planned = desk.prepared()
    run_id = Submission(loaded, planned, store=desk.store, home=desk.home).open()

    def a_look_later(store: Store) -> list[str]:
        if lives:
            store.heartbeat([run_id])
        else:
            store.end(run_id, "KILLED", reason="no sign of life from p-0a1b-1@head for 91 s")
        return []

    monkeypatch.setattr(attach, "reconcile", a_look_later)
    with pytest.raises(LeoclrOpsError, match="does the same already") if lives else contextlib.nullcontext():
        cli_runs._refuse_twin(desk.store, run_id, sure=False)


def test_a_plan_is_one_process_s_at_a_time(desk: Desk, first: threading.Event) -> None:
    with pytest.raises(Busy):
        desk.submit()
    assert len(desk.store.submissions()) == 1


def test_where_the_first_is_lost_the_second_goes_on_in_its_run(
    desk: Desk, cluster: Double, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = f"""
import sys, time
from orchestration import spec
from orchestration.prepare import prepare
from orchestration.storage import Home
from orchestration.submission import Submission
from orchestration.tracking import Store
home = Home.default()
store = Store.open(home)
loaded = spec.load({json.dumps(str(desk.file))})
submission = Submission(loaded, prepare(loaded, home, store), store=store, home=home)
submission.claim()
print(submission.open(), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    run_id = process.stdout.readline().strip()
    follow = attach.follow

    def kill(store: Store, run: str, show: attach.Show) -> Outcome:
        assert run == run_id
        process.kill()
        process.wait()
        monkeypatch.setattr(attach, "follow", follow)
        return follow(store, run, show)

    monkeypatch.setattr(attach, "follow", kill)
    monkeypatch.setattr(attach, "RECONCILE_S", 0.0)
    outcome, _ = cli_runs.run(spec.load(str(desk.file)))
    process.stdout.close()
    assert f"run {run_id[:8]} was cut off: going on here" in capsys.readouterr().err
    assert outcome == Outcome(run_id)
    assert sorted(cluster.started) == sorted(ALL)
    assert desk.submission(run_id).status == "FINISHED"
    assert reconcile.reconcile(desk.store) == []


@pytest.mark.parametrize(("reason", "lost"), [(STOPPED, False), (CANCELLED, False), ("process 1 on a is gone", True)])
def test_what_somebody_stopped_is_not_lost(desk: Desk, cluster: Double, reason: str, lost: bool) -> None:
    run_id = desk.submit().run_id
    assert not attach.is_lost(desk.store, run_id)
    desk.store._client.set_tag(run_id, records.REASON, reason)
    desk.store._client.set_terminated(run_id, "KILLED")
    assert attach.is_lost(desk.store, run_id) is lost
