"""A tracking store that fails, is locked, is opened by many at once, or whose writer's clock jumps: nothing is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy

from jobs import journal
from jobs.journal import Journal
from orchestration import recorder
from orchestration.connection import Connection
from orchestration.plan import Plan
from orchestration.recorder import Recorder
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.cluster_live import postgres

RUN = "r" * 32
STEPS = 40
HOUR_MS = 3_600_000
LOCKED_S = 25.0  # longer than SQLite's own patience of 20 s


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LOOK_S": 0.01, "SEND_S": 0.02, "RETRY_S": 0.05}.items():
        monkeypatch.setattr(recorder, name, seconds)
    monkeypatch.setattr(journal, "FLUSH_S", 0.0)


def wait(until: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def train(folder: Path, *, pause_s: float = 0.0) -> list[float]:
    """Write a journal, and return how long each step waited for it."""
    book, waited = Journal(folder / "journal.jsonl", steps=STEPS), []
    for step in range(1, STEPS + 1):
        began = time.monotonic()
        book.step(step, {"loss": 1 / step, "images": 8}, (1, 1, step / STEPS))
        waited.append(time.monotonic() - began)
        time.sleep(pause_s)
    book.close()
    return waited


@contextmanager
def ailing() -> Iterator[tuple[str, Counter[tuple[int, float]]]]:
    """A tracking server that takes its time, breaks connections, and fails; every fourth answer is a good one."""
    kept: Counter[tuple[int, float]] = Counter()
    asked = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            mood = next(asked) % 4
            if mood == 0:
                time.sleep(0.3)
            if mood == 1:
                self.connection.close()
                return
            self.send_response(500 if mood in (0, 2) else 200)
            self.end_headers()
            self.wfile.write(b"{}")
            if mood == 3:
                kept.update((m["step"], m["value"]) for m in body.get("metrics", []) if m["key"] == "loss")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_fails_resets_and_is_slow_costs_no_step_and_no_value(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ailing() as (uri, kept):
        store = Store(home, Connection(home, uri), experiment_id="1", artifact_root="mlflow-artifacts:/")
        ours = Recorder(store, "")
        ours.follow(RUN, tmp_path)
        waited = sorted(train(tmp_path, pause_s=0.02))
        wait(lambda: len(kept) == STEPS)
        ours.close()
    assert waited[len(waited) // 2] < 0.05  # the median: a busy machine stops any one step for longer
    assert kept == Counter((step, 1 / step) for step in range(1, STEPS + 1))


def test_a_clock_that_jumps_back_an_hour_leaves_the_history_in_order(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_ms = journal._now_ms
    jumps = iter([*[0] * (STEPS // 2), *[-HOUR_MS] * (10 * STEPS)])
    monkeypatch.setattr(journal, "_now_ms", lambda: true_ms() + next(jumps))
    plan = Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    run_id = store.begin_submission(plan, title="", spec_yaml="", arm_labels={}, resume=None)
    ours = Recorder(store, run_id)
    ours.follow(run_id, tmp_path)
    train(tmp_path)
    ours.drain(run_id)
    ours.close()
    assert store.history([run_id], "loss") == {run_id: [(step, 1 / step) for step in range(1, STEPS + 1)]}
    assert store._client.get_run(run_id).data.metrics["loss"] == 1 / STEPS  # the last step, not the latest time


@pytest.mark.slow
def test_a_locked_file_waits_and_loses_nothing(store: Store, home: Home, tmp_path: Path) -> None:
    plan = Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    run_id = store.begin_submission(plan, title="", spec_yaml="", arm_labels={}, resume=None)
    ours = Recorder(store, run_id)
    ours.follow(run_id, tmp_path)
    with closing(sqlite3.connect(home.database, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        train(tmp_path)
        assert time.monotonic() - began < LOCKED_S / 2  # nobody waits for the file
        time.sleep(LOCKED_S)
        database.execute("ROLLBACK")
    ours.drain(run_id)
    ours.close()
    assert store.history([run_id], "loss") == {run_id: [(step, 1 / step) for step in range(1, STEPS + 1)]}


MANY = """
import os, sys, time
from pathlib import Path
from mlflow.tracking import MlflowClient
from orchestration.storage import Home
from orchestration.tracking import Store
home, begin, children = Home(Path(sys.argv[1])), time.time() + 1.0, []
for number in range(8):
    child = os.fork()
    if not child:
        code = 1
        try:
            time.sleep(begin - time.time())
            store = Store.open(home)
            run = store._client.create_run(store.experiment)
            for step in range(20):
                store._client.log_metric(run.info.run_id, "loss", number, step=step)
            code = 0
        finally:
            os._exit(code)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.slow
def test_eight_processes_open_a_new_store_at_once_and_write(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "home")], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.stdout.strip().endswith(str([0] * 8)), done.stderr[-2000:]
    with closing(sqlite3.connect(tmp_path / "home/mlflow.db")) as database:
        assert database.execute("SELECT count(*), count(DISTINCT run_uuid) FROM metrics").fetchone() == (160, 8)
        assert database.execute("SELECT count(*) FROM experiments WHERE name != 'Default'").fetchone() == (1,)


@pytest.mark.slow
def test_a_driver_keeps_one_connection_to_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL has 100 connections for all who use it."""
    monkeypatch.delenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", raising=False)
    with postgres(tmp_path) as uri:
        store = Store.open(Home(tmp_path / "home"), uri)
        plan = Plan(pipeline="p", stages=(), arms={}, fingerprint="f" * 16, total_estimate_s=None)
        run_id = store.begin_submission(plan, title="p", spec_yaml="", arm_labels={}, resume=None)
        ready = threading.Barrier(8)

        def ask() -> None:
            ready.wait()
            for _ in range(5):
                assert store.tags(run_id)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        question = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle%'"
        with sqlalchemy.create_engine(uri).connect() as connection:
            assert connection.execute(sqlalchemy.text(question)).scalar_one() == 1
