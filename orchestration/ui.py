"""Serve MLflow's web pages on the store in use, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestration import naming
from orchestration.connection import EXPERIMENT, without_secrets
from orchestration.errors import LeoclrOpsError, StoreError
from orchestration.storage import Home

DEFAULT_PORT = 5000  # MLflow's own
START_S = 120.0  # a cold disk reads mlflow for a minute
STOP_S = 5.0
ANSWER_S = 5.0
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@contextmanager
def address(home: Home, *, host: str, port: int | None, page: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the address of the runs' page, and whether a server of ours is behind it, which ends with the block.

    `page` names another one, from its `#` on.
    Raises: LeoclrOpsError when `port` is taken, StoreError when the server does not come up.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.database}"
    if uri.startswith(("http://", "https://")):
        server = without_secrets(uri).rstrip("/")
        yield f"{server}/{page}" if page else _runs_page(server), False
        return
    with serving(uri, home, host=host, port=free_port(host, port)) as server:
        yield f"{server}/{page}" if page else _runs_page(server), True


def command(home: Home, *, host: str, port: int) -> list[str]:
    """Return the server's command line, without the store's address: that may hold a password, and `ps` shows it."""
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    return [*server, "--default-artifact-root", home.artifacts.as_uri()]


def free_port(host: str, wanted: int | None) -> int:
    """Return `wanted`, or where that is None, 5000 or any port that is free.

    Raises: LeoclrOpsError when `wanted` is taken.
    """
    for port in (wanted or DEFAULT_PORT, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if wanted is None and port:
                    continue
                place = f"port {port} of {host}"
                raise LeoclrOpsError(str(error.strerror), place=place, hint="name another with --port") from error
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 is never skipped")


@contextmanager
def serving(uri: str, home: Home, *, host: str, port: int) -> Iterator[str]:
    """Yield the server's address once it answers; end the server and all its processes at the end.

    Raises: StoreError when it does not come up; its log is home/ui.log.
    """
    log = home.path / "ui.log"
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603  # our own command
            command(home, host=host, port=port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | QUIET | {"MLFLOW_BACKEND_STORE_URI": uri},
            start_new_session=True,  # its children outlive it: the whole group is ended, and Ctrl-C reaches only us
        )
    try:
        root = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if not _answers(f"{root}/health", server):
            raise StoreError("MLflow's server did not start", place=str(log), hint="its log says why")
        yield root
    finally:
        _end_group(server)


def wait() -> None:
    """Sleep until Ctrl-C or SIGTERM."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    while True:
        time.sleep(3600)


def open_browser(address: str) -> None:
    """Show `address` in a graphical browser, where there is one: a text browser would take the terminal."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def _runs_page(server: str) -> str:
    """Return the address of our experiment's runs; of the front page where the server does not tell it."""
    query = urllib.parse.urlencode({"experiment_name": EXPERIMENT})
    request = f"{server}/api/2.0/mlflow/experiments/get-by-name?{query}"
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  # http, by construction
            experiment = json.load(answer)["experiment"]["experiment_id"]
    except (urllib.error.URLError, TimeoutError, ValueError, KeyError):
        return server
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={naming.VIEW}&{naming.MACHINE_LEARNING}"


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S):  # noqa: S310  # http, by construction
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    return False


def _end_group(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL: to the group, whose id is the server's, for its workers may outlive it."""
    for number, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
