"""Real services as processes of their own, on private ports: Ray heads and nodes, PostgreSQL, MLflow, an S3 server.

Each is a context manager, and ends with all that it started. Nothing here touches a Ray that somebody else runs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

BIN = Path(sys.executable).parent
RAY_TRIES = 8  # each of 30 s, which are not enough on a busy machine
START_S = 300.0  # a busy machine takes minutes for what takes 5 s
STORE_BYTES = 100_000_000  # of a node's object store; Ray's least is 75 MB
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
_POSTGRES = ("/usr/local/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin")


@dataclass
class Node:
    """A node of a Ray cluster: the process of `ray start --block`, and its children."""

    process: subprocess.Popen[bytes]
    folder: Path  # its temporary folder

    def kill(self) -> None:
        """Kill it with all that runs on it, as when a machine loses power."""
        end(self.process)


@dataclass
class Head(Node):
    """The head of a Ray cluster."""

    address: str  # of its dashboard, which serves the Jobs API
    ray_address: str  # of its GCS, for RAY_ADDRESS
    token: str | None
    environment: Mapping[str, str] = field(default_factory=dict)  # what a client on this machine needs besides


@contextmanager
def head(
    *, token: str | None = "t" * 32, cpus: float = 2, environment: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """Start a head that asks for `token`; None: it asks nobody."""
    gcs, dashboard, *more = ports(6)
    words = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    words += [f"--ray-client-server-port={more[3]}", "--include-dashboard=true"]
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    address = f"http://127.0.0.1:{dashboard}"
    with _ray(words, more[:3], cpus=cpus, environment={**own, **(environment or {})}) as (process, folder):
        wait_for(lambda: _answers(f"{address}/api/authentication_mode"), process, folder / "start.log")
        yield Head(process, folder, address, f"127.0.0.1:{gcs}", token, own)


@contextmanager
def node(
    of: Head, *, cpus: float = 2, resources: str = "{}", environment: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """Start one more node of a cluster; `resources` are custom ones, as JSON."""
    words = [f"--address={of.ray_address}", f"--resources={resources}"]
    with _ray(words, ports(3), cpus=cpus, environment={**of.environment, **(environment or {})}) as (process, folder):
        yield Node(process, folder)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server with its files below `folder`; yield the URI of an empty database.

    The test is skipped where PostgreSQL is not installed.
    """
    found = [Path(each) for each in _POSTGRES if Path(each, "postgres").exists() and Path(each, "initdb").exists()]
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    (port,) = ports(1)
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as short:  # the path of a socket has 107 characters
        own, data = _somebody_else(), Path(short) / "data"
        if own:
            os.chown(short, own["user"], own["group"])
        command = [str(found[0] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run([*command, "--locale=C"], check=True, capture_output=True, cwd="/", **own)
        command = [str(found[0] / "postgres"), "-D", str(data), "-k", short, "-h", "127.0.0.1", "-p", str(port), "-F"]
        log = folder / "postgres.log"
        with _running(command, log, {}, cwd="/", **own) as process:
            wait_for(lambda: _listens(port) and b"ready to accept" in log.read_bytes(), process, log)
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def s3_server(folder: Path, *buckets: str) -> Iterator[str]:
    """Start moto's S3 server with these buckets; yield its address. `KEYS` are the credentials."""
    (port,) = ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, folder / "s3.log", KEYS) as process:
        wait_for(lambda: _listens(port), process, folder / "s3.log")
        import boto3

        address = f"http://127.0.0.1:{port}"
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=address,
            region_name=KEYS["AWS_DEFAULT_REGION"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield address


@contextmanager
def mlflow_server(
    folder: Path, database: str, *, artifacts: str, s3: str | None = None, proxied: bool = True
) -> Iterator[str]:
    """Start an MLflow server on `database`; yield its address.

    `artifacts` is a folder or s3://bucket/prefix at the server `s3`; where not `proxied`, clients write there directly.
    """
    (port,) = ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database]
    command += ["--artifacts-destination" if proxied else "--default-artifact-root", artifacts]
    command += [] if proxied else ["--no-serve-artifacts"]
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    variables |= {**KEYS, "MLFLOW_S3_ENDPOINT_URL": s3} if s3 else {}
    with _running(command, folder / "mlflow.log", variables) as process:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), process, folder / "mlflow.log")
        yield f"http://127.0.0.1:{port}"


def ports(count: int) -> list[int]:
    """Return free ports of this machine, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a service answers; fail with its log where it ends, or takes too long."""
    deadline = time.monotonic() + START_S
    while not ready():
        late = time.monotonic() > deadline
        if late or process.poll() is not None:
            raise AssertionError(f"{log.name}: {'too slow' if late else 'ended'}\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its descendants, also those that left its group."""
    try:
        own = psutil.Process(process.pid)
        family = [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for number in range(2):  # again: what was being started while the first were killed
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += member.children(recursive=True) if number == 0 and member.is_running() else []
                member.kill()
    psutil.wait_procs(family, timeout=10)
    process.wait(10)


@contextmanager
def _ray(
    words: list[str], own_ports: list[int], *, cpus: float, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `ray start`, again where its raylet was not there within the 30 s that Ray leaves it."""
    for tries_left in reversed(range(RAY_TRIES)):
        with _ray_once(words, own_ports, cpus=cpus, environment=environment) as (process, folder):
            log = folder / "start.log"
            try:
                wait_for(partial(_says, log, b"Ray runtime started"), process, log)
            except AssertionError:
                if tries_left and b"timed out during startup" in log.read_bytes():
                    continue
                raise
            yield process, folder
            return


@contextmanager
def _ray_once(
    words: list[str], own_ports: list[int], *, cpus: float, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: it holds sockets
    command = [str(BIN / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus:g}", *words]
    command += [f"--temp-dir={folder}", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    command += [f"--{name}={port}" for name, port in zip(names, own_ports, strict=True)]
    try:
        with _running(command, folder / "start.log", environment) as process:
            yield process, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str], **how: object
) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "LEOCLR_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **QUIET, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", **environment},  # as in an active venv
            start_new_session=True,  # Ctrl-C in the test ends it through us
            **how,
        )
    try:
        yield process
    finally:
        end(process)


def _somebody_else() -> dict[str, Any]:
    """Return the user that PostgreSQL runs as where we are root, whom it refuses."""
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name: each for each in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _says(log: Path, words: bytes) -> bool:
    return words in log.read_bytes()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
