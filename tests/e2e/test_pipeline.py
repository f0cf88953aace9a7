"""One command makes the table, every number of it is a tracked run's, and the same command again computes nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration import spec
from orchestration.records import StageRun, Submission
from orchestration.storage import Home
from orchestration.tracking import Store

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
CUT = (  # the shipped pipeline with one seed and next to no training
    "matrix.seed=[0]",
    "pretrain.params.width=2",
    "pretrain.params.batch=800",  # 5 steps an epoch
    "linear.params.settings.epochs=1",
    "semi_supervised.params.settings.few_epochs=[1]",
    "semi_supervised.params.settings.epochs=[1]",
    "transfer.params.settings.epochs=1",
    "detection.params.settings.iterations=2",
    "detection.params.settings.precise_bn_steps=1",
)
QUICKSTART = ("quickstart", *(word for change in CUT for word in ("--set", change)))
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


class Project:
    """A folder with a home; `cli` is what a user types there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Home(folder / "home")

    def cli(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def table(self, *arguments: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.cli("table", *arguments, "--format", "csv").stdout)))

    def status(self, *arguments: str) -> list[dict[str, Any]]:
        looks: list[dict[str, Any]] = json.loads(self.cli("status", *arguments, "--json").stdout)
        return looks

    def runs(self, submission: Submission) -> dict[tuple[str, str], StageRun]:
        """The run that serves each arm and stage of a submission."""
        found = Store.open(self.home).stage_runs(run for runs in submission.arms.values() for run in runs.values())
        return {(arm, stage): found[run] for arm, runs in submission.arms.items() for stage, run in runs.items()}


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project whose quickstart was submitted once, and what that printed."""
    project = Project(tmp_path_factory.mktemp("quickstart"))
    return project, project.cli("submit", *QUICKSTART).stdout


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
    assert f"failed in run {failed.run_id[:8]}" in done.stdout
    assert runs["lr=0.01", "linear"].run_id[:8] in done.stdout
    assert "Diverged" in project.cli("logs", submission.run_id[:8]).stdout
