"""Servers as processes of their own, to be killed, frozen, started again: MLflow's, and one that serves a bucket."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestration.chaos.lab import Broken, wait_for

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # of who speaks to the server
KEYS = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "chaos"
STOP_S = 10.0


class Service:
    """A server on a port of this machine."""

    def __init__(
        self, command: Sequence[str], *, port: int, health: str, log: Path, variables: Mapping[str, str]
    ) -> None:
        self.uri, self._health = f"http://127.0.0.1:{port}", health
        self._command, self._log, self._variables = list(command), log, variables
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. Raises: Broken."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                self._command,
                env=os.environ | QUIET | dict(self._variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it has children that outlive it: the whole group is ended
            )
        wait_for(f"{self.uri} answers", self._answers)

    def kill(self) -> None:
        """Kill it and its children with SIGKILL."""
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait(STOP_S)
            self._process = None

    def freeze(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise Broken(f"a server did not start: {self._log}")
        try:
            with urllib.request.urlopen(self.uri + self._health, timeout=5):  # noqa: S310  # http, by construction
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@contextmanager
def mlflow(folder: Path, store: Service | None = None) -> Iterator[Service]:
    """Run MLflow's server; its runs are in a SQLite file in `folder`, its artifacts there or in the bucket `store`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", f"s3://{BUCKET}/artifacts" if store else str(folder / "artifacts")]
    variables = {**KEYS, "MLFLOW_S3_ENDPOINT_URL": store.uri} if store else {}
    own = Service(command, port=port, health="/health", log=folder / "server.log", variables=variables)
    with _running(own):
        yield own


@contextmanager
def bucket(folder: Path) -> Iterator[Service | None]:
    """Run a bucket's server, where moto is installed; it keeps all in its memory."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    own = Service(command, port=port, health="/moto-api/", log=folder / "bucket.log", variables=KEYS)
    with _running(own):
        made = urllib.request.Request(f"{own.uri}/{BUCKET}", method="PUT")  # noqa: S310  # http, by construction
        urllib.request.urlopen(made, timeout=STOP_S).close()  # noqa: S310
        yield own


@contextmanager
def _running(own: Service) -> Iterator[None]:
    try:
        own.start()
        yield
    finally:
        own.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
