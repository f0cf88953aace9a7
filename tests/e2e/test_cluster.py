"""From a laptop to a cluster: sent, watched by somebody else, cancelled, resumed, moved to a new head after a crash.

A head that asks for a token and one more node, MLflow on PostgreSQL, and an S3 server run as processes of their own.
Nothing is shared between them and the clients but addresses and secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestration import look
from orchestration.chaos.lab import pipeline
from orchestration.storage import Home
from orchestration.tracking import Store
from tests import cluster_live as live
from tests.e2e.quickstart import COMMAND, QUICKSTART

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]

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
PROBE = """
stages:
  pretrain:
    params: {dataset: digits, method: random, backbone: resnet18, width: 2, stem: stride2, image_size: 16}
  linear:
    needs: [pretrain]
    params: {dataset: digits, protocol: small, settings: {epochs: 1}}
"""
SWEEP = """
title: epochs of the probe
base: probe.yaml
axes:
  linear.params.settings.epochs: [1, 2]
set: {linear.params.settings.weight_decay: 0.1}
objectives:
  linear top-1: {stage: linear, metric: top1}
"""
TABLE = """
title: a probe of random weights
pipelines: [probe.yaml]
runs: {dataset: digits, method: random, params.settings.epochs: 1}
rows: {random: {title: random weights}}
columns: [{title: linear top-1, stage: linear, metric: top1}]
"""
SMALL = pipeline(epochs=8)


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
    """What the tests of this file share."""

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


def test_a_quickstart_that_is_sent_ends_without_its_client(cluster: Cluster) -> None:
    laptop, colleague = cluster.laptop("laptop"), cluster.colleague("colleague")
    sent = ("submit", *QUICKSTART, "--set", "matrix.method=[leoclr]", "--cluster", "./one.yaml", "--detach")
    run_id = laptop.run(*sent).strip()
    assert laptop.run(*sent).strip() == run_id  # the same command finds the same job
    printed = colleague.run("attach", run_id[:8])  # the process that sent it is gone
    look = colleague.look(run_id)
    assert look["state"] == "done"
    assert {stage["state"] for stage in look["stages"]} == {"done"}
    top1 = next(stage["metrics"]["top1"] for stage in look["stages"] if stage["name"] == "linear")
    assert f"{top1:.1f}" in next(line for line in printed.splitlines() if line.startswith("linear top-1"))
    assert colleague.run("table", "quickstart", "--submission", run_id[:8])
    linear = next(stage["run_id"] for stage in look["stages"] if stage["name"] == "linear")
    assert "finished: " in colleague.run("logs", linear)
    objects = cluster.objects()
    for stage in look["stages"]:
        manifest = next(key for key in objects if key.endswith(f"{stage['run_id']}/artifacts/manifest.json"))
        files = json.loads(objects[manifest])["files"]
        assert {"checkpoint.pt", "metrics.json"} <= files.keys()
        for file, facts in files.items():
            kept = objects[manifest.replace("manifest.json", file)]
            assert hashlib.sha256(kept).hexdigest() == facts["sha256"], (stage["name"], file)


def test_a_sweep_that_is_sent_prints_its_table_each_time(cluster: Cluster) -> None:
    laptop, colleague = cluster.laptop("sweeper"), cluster.colleague("sweeper-colleague")
    (laptop.folder / "probe.yaml").write_text(PROBE)
    (laptop.folder / "probes.yaml").write_text(SWEEP)
    sent = ("sweep", "probes.yaml", "--cluster", "./one.yaml", "--set", "linear.params.settings.weight_decay=0.5")
    table = laptop.run(*sent)
    assert "2 trials: 2 done" in table, table
    assert "| linear epochs | linear top-1 (%) |" in table
    assert laptop.run(*sent) == table  # nothing is left to do: the job that finds that out tells the same
    client = MlflowClient(cluster.mlflow)
    (experiment,) = (each.experiment_id for each in client.search_experiments() if each.name == "leoclr-ops")
    (own,) = client.search_runs([experiment], "tags.`leoclr.role` = 'sweep'")
    assert colleague.run("attach", own.info.run_id[:8]) == table
    decayed = "tags.`leoclr.stage` = 'linear' and params.`settings.weight_decay` = '0.5'"
    assert len(client.search_runs([experiment], decayed)) == 2  # what the command line says, and not the file


def test_a_table_that_is_sent_is_filled_once(cluster: Cluster) -> None:
    laptop, colleague = cluster.laptop("author"), cluster.colleague("author-colleague")
    for client in (laptop, colleague):
        (client.folder / "probe.yaml").write_text(PROBE)
        (client.folder / "probe-table.yaml").write_text(TABLE)
    sent = ("submit", "--table", "./probe-table.yaml", "--cluster", "./one.yaml")
    assert "1 of 1 cells are missing" in colleague.run("plan", "--table", "./probe-table.yaml")
    table = laptop.run(*sent)
    assert re.search(r"random weights +\d+\.\d", table), table
    submissions = _submissions(colleague)
    assert laptop.run(*sent) == table == colleague.run("table", "./probe-table.yaml")
    assert _submissions(colleague) == submissions  # nothing was missing: nothing was sent
    assert "all 1 cells have their runs" in colleague.run("plan", "--table", "./probe-table.yaml")


def test_what_was_cancelled_goes_on_and_outlives_its_head(cluster: Cluster) -> None:
    laptop, colleague = cluster.laptop("second"), cluster.colleague("second-colleague", **SECRETS)
    run_id = laptop.run("submit", "small.yaml", "--cluster", "./one.yaml", "--detach").strip()
    colleague.wait_for(run_id, 0.1)
    assert "worker 0: checkpoint" in colleague.run("logs", run_id[:8])
    began = time.monotonic()
    colleague.run("cancel", run_id[:8])
    took_s = time.monotonic() - began
    stopped = colleague.look(run_id)
    assert (stopped["state"], stopped["stages"][0]["reason"]) == ("stopped", "cancelled by the user")
    assert took_s < 60, took_s  # a calm machine takes 5 s, most of it imports

    assert "no cluster is called `one`" in _refusal(colleague, "resume", run_id[:8])
    assert colleague.run("resume", run_id[:8], "--kept-profile", "--detach").strip() == run_id
    colleague.wait_for(run_id, stopped["stages"][0]["fraction"] + 0.1)
    cluster.head.kill()
    cluster.node.kill()

    with live.head(token=TOKEN, cpus=1) as head:
        (colleague.folder / "two.yaml").write_text(cluster.profile(head, "other-node"))
        colleague.run("resume", run_id[:8], "--cluster", "./two.yaml")
    ended = colleague.look(run_id)
    assert ended["state"] == "done"
    assert [stage["state"] for stage in ended["stages"]] == ["done", "done"]
    assert ended["stages"][0]["run_id"] == stopped["stages"][0]["run_id"]

    calm = Client(laptop.folder, {})
    calm.run("submit", "small.yaml")
    (expected,) = json.loads(calm.run("status", "--json"))
    assert _numbers(ended) == _numbers(expected)
    assert _weights(colleague, ended) == _weights(calm, expected)


def _submissions(client: Client) -> set[str]:
    return {each["run_id"] for each in json.loads(client.run("status", "--json"))}


def _refusal(client: Client, *words: str) -> str:
    done = subprocess.run(
        [COMMAND, *words], cwd=client.folder, env=client.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr


def _numbers(look: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What the stages ended with, less what the clock decides."""
    return {
        stage["name"]: {k: v for k, v in stage["metrics"].items() if not k.startswith(("system/", "images_per_s"))}
        for stage in look["stages"]
    }


def _weights(client: Client, look: dict[str, Any]) -> bytes:
    """The trained trunk: equal weights are equal files."""
    run_id = next(stage["run_id"] for stage in look["stages"] if stage["name"] == "pretrain")
    client.run("export", run_id, "--format", "safetensors", "--out", "trunk.safetensors")
    return (client.folder / "trunk.safetensors").read_bytes()
