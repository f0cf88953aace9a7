"""A cluster that pipelines are sent to, and the shells of those who send and look.

A head that asks for a token and one more node, MLflow on PostgreSQL, and an S3 server run as processes of their own.
Nothing is shared between them and the clients but addresses and secrets.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestration import look
from orchestration.chaos.lab import pipeline
from orchestration.storage import Home
from orchestration.tracking import Store
from tests import cluster_live as live
from tests.e2e.quickstart import COMMAND

BUCKET = "leoclr-live"
TOKEN = "t" * 32
SECRETS = {"LIVE_TOKEN": TOKEN, "LIVE_ACCESS": "testing", "LIVE_SECRET": "testing"}
PROFILE = """
title: processes of this machine
address: {address}
auth: {{token: {{env: LIVE_TOKEN}}}}
tracking: {{uri: "{mlflow}"}}
storage:
  uri: s3://{bucket}/runs
  endpoint: {s3}
  region: us-east-1
  access_key: {{env: LIVE_ACCESS}}
  secret_key: {{env: LIVE_SECRET}}
home: {home}
environment: {{code: wheel, variables: {{OMP_NUM_THREADS: "1"}}, send_secrets: true}}
"""
SMALL = pipeline(epochs=5)


@dataclass(frozen=True)
class Client:
    """Somebody's shell in a folder of their own."""

    folder: Path
    variables: dict[str, str]

    def run(self, *words: str, code: int = 0) -> str:
        """Run our command and return what it prints to stdout."""
        done = subprocess.run(
            [COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        own = {"LEOCLR_OPS_HOME": str(self.folder / "home"), "LEOCLR_OPS_CONFIG": str(self.folder / "config")}
        return os.environ | own | self.variables

    def look(self, run_id: str) -> dict[str, Any]:
        (found,) = json.loads(self.run("status", run_id, "--json"))
        return dict(found)

    def wait_for(self, run_id: str, share: float) -> None:
        """Wait until the pre-training is so far; asked in this process, a command takes seconds of a core."""
        home, deadline = Home(self.folder / "home"), time.monotonic() + 600
        store = Store.open(home, self.variables["MLFLOW_TRACKING_URI"])
        while not any(stage.fraction >= share for each in look.status(store, home, run_id) for stage in each.stages):
            assert time.monotonic() < deadline, self.run("status", run_id)
            time.sleep(0.5)


@dataclass(frozen=True)
class Cluster:
    """What the tests of one file share."""

    folder: Path
    mlflow: str
    s3: str
    head: live.Head
    node: live.Node

    def profile(self, head: live.Head, home: str) -> str:
        place = {"address": head.address, "mlflow": self.mlflow, "s3": self.s3, "bucket": BUCKET}
        return PROFILE.format(**place, home=self.folder / home)

    def laptop(self, name: str) -> Client:
        """A client that has a profile and its secrets."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "one.yaml").write_text(self.profile(self.head, "node"))
        (folder / "small.yaml").write_text(SMALL)
        return Client(folder, SECRETS)

    def colleague(self, name: str, **more: str) -> Client:
        """A client that knows the tracking server alone."""
        folder = self.folder / name
        folder.mkdir()
        return Client(folder, {"MLFLOW_TRACKING_URI": self.mlflow, **more})

    def objects(self) -> dict[str, bytes]:
        """The artifacts in the bucket, by key."""
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        client = boto3.session.Session().client("s3", endpoint_url=self.s3, **keys)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="artifacts/")
        names = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        database = stack.enter_context(live.postgres(folder))
        s3 = stack.enter_context(live.s3_server(folder, BUCKET))
        artifacts = f"s3://{BUCKET}/artifacts"
        mlflow = stack.enter_context(live.mlflow_server(folder, database, artifacts=artifacts, s3=s3))
        head = stack.enter_context(live.head(token=TOKEN, cpus=1))
        node = stack.enter_context(live.node(head, cpus=1))
        yield Cluster(folder, mlflow, s3, head, node)
