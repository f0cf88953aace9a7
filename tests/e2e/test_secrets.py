"""Secrets are planted wherever one can be named; afterwards none stands in anything that the product left or said."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_live import mlflow_server
from tests.e2e.project import COMMAND

SECRETS = {  # by where it is planted
    "MLFLOW_TRACKING_URI": "uripassword7f3a",
    "MLFLOW_TRACKING_PASSWORD": "mlflowpassword91bc",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED4D2E",
    "AWS_SECRET_ACCESS_KEY": "awssecret55e1",
    "AWS_SESSION_TOKEN": "awssession0a77",
    "RAY_AUTH_TOKEN": "5eed" * 16,
    "LEOCLR_TEST_TOKEN": "profiletoken33d8",
    "LEOCLR_TEST_PASSWORD": "profilepassword6c04",
    "LEOCLR_TEST_KEY": "profilekey8812",
    "WANDB_API_KEY": "somebodyelses1b9e",
}
TRIES = 3  # Ray gives a node 30 s to start, which a machine that runs other tests may not keep
LITERAL = "writtenintoaprofile2f60"
PIPELINE = """
title: small
stages:
  pretrain:
    params: {dataset: mnist5k, method: random, backbone: resnet18, width: 2, stem: stride2, image_size: 28}
  knn:
    needs: [pretrain]
    params: {dataset: mnist5k, protocol: small}
"""
PROFILE = """
address: http://127.0.0.1:PORT
auth: {token: {env: LEOCLR_TEST_TOKEN}}
tracking: {uri: "http://127.0.0.1:PORT", username: ann, password: {env: LEOCLR_TEST_PASSWORD}}
storage:
  uri: s3://bucket/x
  endpoint: http://127.0.0.1:PORT
  access_key: {env: LEOCLR_TEST_KEY}
  secret_key: {env: LEOCLR_TEST_KEY}
home: /tmp/x
environment: {secrets: {HF_TOKEN: {env: LEOCLR_TEST_TOKEN}}, send_secrets: true}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: Ray's sockets lie below it, and their paths have at most 107 characters."""
    made = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shell:
    """Runs our command with every secret planted, and keeps what it said."""

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder, self.said = folder, ""
        self.variables = {
            **SECRETS,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_TRACKING_USERNAME": "ann",
            "LEOCLR_OPS_HOME": str(folder / "home"),
            "RAY_TMPDIR": str(folder / "ray"),
            "HOME": str(folder / "user"),
            "COLUMNS": "400",  # a secret is not to hide behind the end of a line
        }

    def __call__(self, *words: str, code: int | None = 0, **variables: str) -> int:
        """Run a command and return its exit code, which must be `code` where that is said."""
        done = subprocess.run(
            [COMMAND, *words],
            cwd=self._folder,
            env=os.environ | self.variables | variables,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        self.said += f"\n$ {words}\n{done.stdout}{done.stderr}"
        assert code is None or done.returncode == code, self.said
        assert "Traceback" not in done.stdout + done.stderr, self.said
        return done.returncode


def leaks(folder: Path, said: str) -> list[str]:
    """Return each place where a secret stands: what was said, names of files, and every byte of them."""
    planted = {name: secret.encode() for name, secret in SECRETS.items()} | {"a literal": LITERAL.encode()}
    found = [f"{name} in what was said" for name, secret in planted.items() if secret in said.encode()]
    for path in folder.rglob("*"):
        content = os.fsencode(path) + (path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
        found += [f"{name} in {path}" for name, secret in planted.items() if secret in content]
    return found


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_secret_is_left_anywhere(folder: Path) -> None:
    for name in ("home", "ray", "user", "server"):
        (folder / name).mkdir()
    (folder / "small.yaml").write_text(PIPELINE)
    (folder / "cluster.yaml").write_text(PROFILE.replace("PORT", str(closed_port())))
    database, artifacts = f"sqlite:///{folder / 'server' / 'mlflow.db'}", str(folder / "server" / "artifacts")
    with mlflow_server(folder / "server", database, artifacts=artifacts) as server:
        uri = server.replace("://", f"://ann:{SECRETS['MLFLOW_TRACKING_URI']}@")
        shell = Shell(folder, uri)
        shell("plan", "small.yaml")
        for _ in range(TRIES):
            if shell("submit", "small.yaml", code=None) == 0:
                break
        shell("status")
        shell("status", "--json")
        shell("report", "--to", "report.html")
        shell("doctor", code=None)
        shell("doctor", "--cluster", "./cluster.yaml", code=1)
        shell("submit", "small.yaml", "--cluster", "./cluster.yaml", code=None)
        shell("cancel", code=None)
    dead = f"http://ann:{SECRETS['MLFLOW_TRACKING_URI']}@127.0.0.1:{closed_port()}"
    elsewhere = {"LEOCLR_OPS_HOME": str(folder / "other"), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    shell("submit", "small.yaml", code=1, MLFLOW_TRACKING_URI=dead, **elsewhere)
    shell("status", code=None, MLFLOW_TRACKING_URI=dead, **elsewhere)
    postgres = f"postgresql://ann:{SECRETS['MLFLOW_TRACKING_URI']}@127.0.0.1:{closed_port()}/x"
    shell("status", code=1, MLFLOW_TRACKING_URI=postgres, **elsewhere)
    (folder / "typed.yaml").write_text(PROFILE.replace("{env: LEOCLR_TEST_TOKEN}}", f"{LITERAL}}}", 1))
    shell("doctor", "--cluster", "./typed.yaml", code=1)
    (folder / "typed.yaml").unlink()
    assert (folder / "report.html").stat().st_size > 10_000, shell.said
    assert leaks(folder, shell.said) == []


def test_the_search_finds(folder: Path) -> None:
    (folder / "log.txt").write_bytes(b"x\0" + SECRETS["AWS_SESSION_TOKEN"].encode())
    assert leaks(folder, SECRETS["RAY_AUTH_TOKEN"]) == [
        "RAY_AUTH_TOKEN in what was said",
        f"AWS_SESSION_TOKEN in {folder / 'log.txt'}",
    ]
