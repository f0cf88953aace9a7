"""No run shows as running that nobody runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration import records
from orchestration.plan import Plan
from orchestration.query import Query
from orchestration.reconcile import SILENCE_S, reconcile
from orchestration.storage import Home
from orchestration.tracking import Store

SUBMIT = """
import sys, time
from pathlib import Path
from orchestration.plan import Plan
from orchestration.storage import Home
from orchestration.tracking import Store
store = Store.open(Home(Path(sys.argv[1])))
plan = Plan(pipeline="quick", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
parent = store.begin_submission(plan, title="t", spec_yaml="", arm_labels={}, resume=None)
print(parent, flush=True)
time.sleep(600)
"""


def _submit(store: Store) -> str:
    plan = Plan(pipeline="quick", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    return store.begin_submission(plan, title="t", spec_yaml="", arm_labels={}, resume=None)


def _stage(store: Store, parent: str) -> str:
    tags = {records.ROLE: "stage", records.PARENT: parent, records.PARAMS: "{}"}
    tags |= dict.fromkeys((records.STAGE, records.KIND, records.ARM), "x")
    return str(store._client.create_run(store._experiment, tags=tags).info.run_id)


def _status(store: Store) -> dict[str, str]:
    return {raw.run_id: raw.status for raw in store._find(Query())}


def test_a_killed_submission_and_its_stage_are_ended(store: Store, home: Home) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SUBMIT, str(home.path)]
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE)
    assert process.stdout
    parent = process.stdout.readline().decode().strip()
    mine, stage = _submit(store), _stage(store, parent)
    my_stage = _stage(store, mine)
    assert reconcile(store) == []  # its process lives
    os.kill(process.pid, signal.SIGKILL)
    while store.submissions()[-1].owner.alive():  # dead but not reaped counts as gone
        pass
    assert reconcile(store) == [stage, parent]
    assert _status(store) == {parent: "KILLED", stage: "KILLED", mine: "RUNNING", my_stage: "RUNNING"}
    ended = next(each for each in store.submissions() if each.run_id == parent)
    assert ended.ended_ms == ended.heartbeat_ms  # the last sign of life, not the time of this check
    reason = store._client.get_run(stage).data.tags[records.REASON]
    assert reason == f"process {process.pid} on {ended.host} is gone"
    assert reconcile(store) == []
    process.communicate()


def test_a_used_again_process_id_is_not_taken_for_the_owner(store: Store) -> None:
    run_id = _submit(store)
    store.set_tags(run_id, {records.PID_CREATED: "1000.0"})
    assert reconcile(store) == [run_id]


@pytest.mark.parametrize(("silent_s", "ended"), [(SILENCE_S - 30, False), (SILENCE_S + 30, True)])
def test_another_host_is_judged_by_its_heartbeat(silent_s: float, ended: bool, store: Store) -> None:
    run_id = _submit(store)
    beat_ms = store.submissions()[0].heartbeat_ms - int(silent_s * 1000)
    store.set_tags(run_id, {records.HOST: "elsewhere", records.HEARTBEAT_MS: str(beat_ms)})
    assert reconcile(store) == ([run_id] if ended else [])


def test_a_stage_whose_submission_has_ended_is_ended(store: Store) -> None:
    parent = _submit(store)
    stage = _stage(store, parent)
    store.end(parent, "FAILED", reason="a stage failed")
    assert reconcile(store) == [stage]
    assert _status(store) == {parent: "FAILED", stage: "KILLED"}
