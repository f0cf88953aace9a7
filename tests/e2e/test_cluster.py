"""From a laptop to a cluster: a pipeline, a sweep and a table are sent, and watched by somebody else."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from mlflow import MlflowClient

from tests.e2e.quickstart import QUICKSTART
from tests.e2e.sent import Client, Cluster
from tests.e2e.sent import cluster as cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]

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


def _submissions(client: Client) -> set[str]:
    return {each["run_id"] for each in json.loads(client.run("status", "--json"))}
