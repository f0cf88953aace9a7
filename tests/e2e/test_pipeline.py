"""One command makes the table, every number of it is a tracked run's, and the same command again computes nothing."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from orchestration import spec
from orchestration.records import StageRun, Submission
from orchestration.tracking import Store
from tests.e2e.quickstart import CUT, QUICKSTART, Project

pytestmark = pytest.mark.e2e

DIVERGING = """
# The same pre-training with a rate that no network survives, and with one that it does.
matrix: {pretrain.params.lr: [0.01, 1.0e+30]}
stages:
  pretrain:
    params:
      {dataset: mnist5k, method: moco_v2, settings: {queue_size: 256}, backbone: resnet18, width: 2, stem: stride2,
       image_size: 28, epochs: 1, batch: 64}
    resources: {cpus_per_worker: 0.5}
  linear:
    needs: [pretrain]
    params: {dataset: mnist5k, protocol: small, settings: {epochs: 1}}
"""
STAGES = ("pretrain", "linear", "semi_supervised", "transfer", "detection")
ARMS = ("leoclr seed=0", "moco_v2 seed=0", "random seed=0")
FILES = {"checkpoint.pt", "metrics.json", "params.json", "log.txt"}


@pytest.fixture
def project(submitted: tuple[Project, str]) -> Project:
    return submitted[0]


@pytest.fixture
def first(project: Project) -> Submission:
    return Store.open(project.home).submissions()[-1]


def test_the_table_is_printed_and_every_cell_names_its_run(submitted: tuple[Project, str], first: Submission) -> None:
    project, printed = submitted
    runs = project.runs(first)
    *rows, difference = project.table("quickstart")
    assert difference["row"] == "LeOCLR - MoCo-v2"
    assert not difference["linear top-1"], "one seed tells no difference"
    assert [row["row"] for row in rows] == ["LeOCLR", "MoCo-v2", "random weights (control)"]
    for arm, row in zip(ARMS, rows, strict=True):
        assert row["row"] in printed
        for title, stage, metric in (
            ("kNN top-1", "pretrain", "knn_top1"),
            ("linear top-1", "linear", "top1"),
            ("4 labels a class", "semi_supervised", "labels_1/top1"),
            ("transfer to digits", "transfer", "top1"),
            ("AP50", "detection", "ap50"),
        ):
            run = runs[arm, stage]
            assert (row[f"{title} runs"], row[f"{title} missing"]) == (run.run_id, "")
            assert float(row[title]) == pytest.approx(run.metrics[metric])
            assert run.run_id[:8] in printed
    for form in ("md", "latex"):
        text = project.cli("table", "quickstart", "--format", form).stdout
        for row in rows:
            assert row["row"] in text
            assert f"{float(row['linear top-1']):.1f}" in text
    assert project.cli("table", "quickstart").stdout == printed


def test_runs_are_children_with_params_metrics_and_whole_artifacts(project: Project, first: Submission) -> None:
    loaded = spec.load("quickstart", CUT)
    assert (first.status, tuple(first.arms)) == ("FINISHED", ARMS)
    store, runs = Store.open(project.home), project.runs(first)
    assert set(runs) == {(arm, stage) for arm in ARMS for stage in STAGES}
    assert len({run.run_id for run in runs.values()}) == 15
    for arm in loaded.arms:
        for name, stage in arm.stages.items():
            run = runs[arm.name, name]
            assert (run.status, run.parent, run.params) == ("FINISHED", first.run_id, stage.params_json)
            assert run.tags["mlflow.parentRunId"] == first.run_id
            assert json.loads(run.tags["leoclr.arm_labels"]) == arm.labels
            assert run.metrics["system/process_memory_megabytes"] > 0
            assert ("loss" in run.metrics) is ((arm.labels["method"], name) != ("random", "pretrain"))
            _assert_artifacts(store, run)


def _assert_artifacts(store: Store, run: StageRun) -> None:
    manifest = store.fetch(run.run_id, "log.txt").with_name("manifest.json")
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() == run.tags["leoclr.manifest"]
    files = json.loads(manifest.read_text())["files"]
    assert set(files) == FILES | ({"backbone.safetensors"} if run.kind == "pretrain" else set())
    for name, entry in files.items():
        content = manifest.with_name(name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
    final = json.loads(manifest.with_name("metrics.json").read_text())
    assert final == {name: pytest.approx(run.metrics[name]) for name in final}


def test_the_submission_keeps_what_it_takes_to_repeat_it(project: Project, first: Submission) -> None:
    folder = project.home.artifacts / first.run_id / "artifacts" / "provenance"
    assert "batch: 800" in (folder / "pipeline.yaml").read_text()
    assert "torch" in (folder / "environment.json").read_text()


def test_status_logs_and_plan_agree(project: Project, first: Submission) -> None:
    (look,) = project.status(first.run_id[:8])
    assert (look["run_id"], look["state"], len(look["stages"])) == (first.run_id, "done", 15)
    assert {stage["state"] for stage in look["stages"]} == {"done"}
    runs = project.runs(first)
    for stage in look["stages"]:
        run = runs[stage["arm"], stage["name"]]
        assert (stage["run_id"], stage["metrics"]) == (run.run_id, run.metrics)
    linear = runs["leoclr seed=0", "linear"]
    assert f"top1 {linear.metrics['top1']:.4g}" in project.cli("logs", linear.run_id[:8]).stdout
    plan = project.cli("plan", *QUICKSTART).stdout
    assert "15 stages" in plan
    for run in runs.values():
        assert f"finished in run {run.run_id[:8]}" in plan


def test_a_second_submit_starts_no_ray_and_reuses_all(submitted: tuple[Project, str], first: Submission) -> None:
    project, printed = submitted
    begun = time.monotonic()
    again = project.cli("submit", *QUICKSTART, RAY_ADDRESS="127.0.0.1:1")  # nobody answers there: it would fail
    assert time.monotonic() - begun < 60
    second = Store.open(project.home).submissions()[0]
    assert second.run_id != first.run_id
    assert (second.status, second.arms) == ("FINISHED", first.arms)
    assert again.stdout == printed.replace(first.run_id[:8], second.run_id[:8])
    (look,) = project.status(second.run_id)
    assert {stage["state"] for stage in look["stages"]} == {"reused"}


def test_an_arm_that_diverges_is_told_and_the_other_one_finishes(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "rates.yaml").write_text(DIVERGING)
    done = project.cli("submit", "rates.yaml", code=3)
    assert "error: stages failed:\n  pretrain lr=1e+30: Diverged: the loss is" in done.stderr
    assert "Traceback" not in done.stderr
    (submission,) = Store.open(project.home).submissions()
    runs = project.runs(submission)
    assert {name: run.status for name, run in runs.items()} == {
        ("lr=0.01", "pretrain"): "FINISHED",
        ("lr=0.01", "linear"): "FINISHED",
        ("lr=1e+30", "pretrain"): "FAILED",
    }
    failed = runs["lr=1e+30", "pretrain"]
    assert "lower the learning rate" in failed.tags["leoclr.reason"]
    assert f"diverged in run {failed.run_id[:8]}" in done.stdout
    assert runs["lr=0.01", "linear"].run_id[:8] in done.stdout
    assert "Diverged" in project.cli("logs", submission.run_id[:8]).stdout
