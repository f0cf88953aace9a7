"""A pipeline whose stages were recorded as finished, without having run: for tests of what reads a store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from leoclr import RESULTS_VERSION
from orchestration import plan, spec
from orchestration.plan import Plan
from orchestration.table.read import load
from orchestration.table.spec import TableSpec
from orchestration.tracking import Store

PIPELINE = """
title: tiny
matrix:
  method: {leoclr: {}, moco_v2: {}}
  seed: [0, 1]
stages:
  pretrain:
    params: {dataset: mnist5k, backbone: resnet18, width: 2, stem: stride2, image_size: 28, epochs: 2, batch: 64}
    resources: {workers: 2, gpus_per_worker: 1}
  knn:
    needs: [pretrain]
    params: {dataset: mnist5k, protocol: small}
"""
TABLE = """
title: a goal
pipelines: [tiny.yaml]
runs: {dataset: mnist5k, protocol: small, epochs: 2}
rows:
  leoclr: {title: LeOCLR, runs: {method: leoclr}}
  moco_v2: {title: MoCo-v2, runs: {method: moco_v2}}
  other: {title: Other, why: not a method of ours}
columns:
  - {title: kNN, stage: knn, metric: top1}
differences: [{of: leoclr, minus: moco_v2}]
"""
DIGEST = "d" * 8


def table(folder: Path) -> TableSpec:
    """Return the table, its pipeline beside it."""
    (folder / "tiny.yaml").write_text(PIPELINE)
    (folder / "tiny-table.yaml").write_text(TABLE)
    return load(str(folder / "tiny-table.yaml"))


def planned(folder: Path) -> Plan:
    """Return the plan of the pipeline, nothing of it done."""
    loaded = spec.load(str(folder / "tiny.yaml"))
    return plan.make(loaded, digests={"mnist5k": DIGEST}, past=[], results_version=RESULTS_VERSION)


def finish(store: Store, folder: Path, seeds: tuple[int, ...] = (0, 1)) -> dict[str, str]:
    """Record the stages of these seeds as finished; return run id by "stage arm"."""
    made = planned(folder)
    labels = {arm.name: arm.labels for arm in spec.load(str(folder / "tiny.yaml")).arms}
    parent = store.begin_submission(made, title="", spec_yaml="a: 1\n", arm_labels=labels, resume=None)
    runs = {}
    for number, stage in enumerate(made.stages):
        if stage.spec.params.seed not in seeds:
            continue
        arm = stage.arms[0]
        run_id = store.begin_stage(stage, parent=parent, pipeline="tiny", arm_labels=labels[arm], resume=None)
        metrics = {"top1": 80.0 + number} if stage.kind == "knn" else {"knn_top1": 50.0}
        made_of = result(folder / f"result-{number}", json.dumps(metrics).encode())
        ended_ms = int(store.stage_runs([run_id])[run_id].started_ms) + 3_600_000
        store.finish_stage(run_id, metrics=metrics, result=made_of, ended_ms=ended_ms)
        store.record_arm(parent, arm, stage.name, run_id)
        runs[f"{stage.name} {arm}"] = run_id
    return runs


def result(folder: Path, metrics: bytes) -> Path:
    """Write what a stage leaves, sealed."""
    folder.mkdir()
    files = {"metrics.json": metrics, "backbone.safetensors": b"weights" + metrics}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": listed}))
    return folder
