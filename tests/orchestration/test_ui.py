import http.server
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestration import ui
from orchestration.errors import LeoclrOpsError, StoreError
from orchestration.storage import Home


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_is_asked_for_and_taken_is_refused(taken: int) -> None:
    with pytest.raises(LeoclrOpsError, match=f"port {taken} of 127.0.0.1"):
        ui.free_port("127.0.0.1", taken)


def test_without_a_wish_another_port_is_found(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "DEFAULT_PORT", taken)
    assert ui.free_port("127.0.0.1", None) != taken


def test_the_stores_address_is_not_on_the_command_line(tmp_path: Path) -> None:
    command = ui.command(Home(tmp_path), host="127.0.0.1", port=5001)
    assert command[-2:] == ["--default-artifact-root", (tmp_path / "artifacts").as_uri()]
    assert "--backend-store-uri" not in command


def test_a_server_that_dies_is_told_and_its_log_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "command", lambda home, **_: ["sh", "-c", "echo no such database; exit 3"])
    with pytest.raises(StoreError, match=r"ui\.log: MLflow's server did not start"):  # noqa: SIM117  # enters, then fails
        with ui.serving("sqlite://", Home(tmp_path), host="127.0.0.1", port=1):
            pass
    assert (tmp_path / "ui.log").read_text() == "no such database\n"


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"experiment": {"experiment_id": "7"}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # quiet
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as found:
        threading.Thread(target=found.serve_forever).start()
        yield f"127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def test_a_remote_server_is_only_named_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@{server}/")
    with ui.address(Home(tmp_path), host="127.0.0.1", port=None) as (address, ours):
        page = "#/experiments/7/runs?viewStateShareKey=leoclr-ops&workflowType=machine_learning"
        assert (address, ours) == (f"http://{server}/{page}", False)
    with ui.address(Home(tmp_path), host="127.0.0.1", port=None, page="#/compare-runs") as (address, ours):
        assert (address, ours) == (f"http://{server}/#/compare-runs", False)


def test_a_server_that_does_not_know_us_shows_its_front_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    monkeypatch.setattr(ui, "ANSWER_S", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken}")
    with ui.address(Home(tmp_path), host="127.0.0.1", port=None) as (address, _):
        assert address == f"http://127.0.0.1:{taken}"


def test_the_whole_group_ends_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    program = "trap '' TERM; sleep 60 & echo $! > child; while :; do sleep 1; done"
    monkeypatch.setattr(ui, "command", lambda home, **_: ["sh", "-c", f"cd '{tmp_path}'; {program}"])
    monkeypatch.setattr(ui, "STOP_S", 0.3)
    with ui.serving("sqlite://", Home(tmp_path), host="127.0.0.1", port=int(server.partition(":")[2])):
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            time.sleep(0.01)
        child = int((tmp_path / "child").read_text())
        assert os.getpgid(child) != os.getpgid(0)
    deadline = time.monotonic() + 10  # the kernel takes a moment to end what was killed
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_ends_the_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ui.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_mlflow_serves_the_runs_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with ui.address(Home(tmp_path), host="127.0.0.1", port=ui.free_port("127.0.0.1", 0)) as (address, ours):
        assert ours
        with urllib.request.urlopen(address.partition("#")[0]) as page:
            assert b"MLflow" in page.read()
