"""A grid of settings is tried side by side, the test split decides nothing, and a killed search goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.records import StageRun
from orchestration.storage import Home
from orchestration.tracking import Store

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
PIPELINE = """
# Random weights, and a transfer that chooses among two rates and two decays.
title: grid
stages:
  pretrain: {params: {dataset: digits, method: random, backbone: resnet18, width: 2, stem: stride2, image_size: 16}}
  transfer:
    needs: [pretrain]
    params:
      dataset: digits
      protocol: simclr
      settings: {steps: STEPS, batch: 32, lrs: LRS, weight_decays: [0.0, 1.0e-4], view: {resize: 16, size: 16}}
    resources: {checkpoint_every_steps: 20}
"""


class Project:
    """A folder with a pipeline file and a home."""

    def __init__(self, folder: Path, *, steps: int, lrs: str = "[0.003, 0.1]") -> None:
        self.folder, self.home = folder, Home(folder / "home")
        (folder / "grid.yaml").write_text(PIPELINE.replace("STEPS", str(steps)).replace("LRS", lrs))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, "submit", "grid.yaml"],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, code: int = 0) -> str:
        process = self.start()
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output

    def stage(self) -> Path:
        """The folder of the transfer, as soon as it has trials."""
        (found,) = (path.parent for path in (self.home.path / "stages").glob("*/trials"))
        return found

    def ended_trials(self) -> list[Path]:
        return sorted((self.home.path / "stages").glob("*/trials/*/result/metrics.json"))

    def result(self) -> tuple[StageRun, dict[str, Any]]:
        """The run of the transfer, and its grid.json."""
        store = Store.open(self.home)
        (past,) = (run for run in store.past_runs() if run.stage == "transfer")
        assert past.reusable
        (run,) = store.stage_runs([past.run_id]).values()
        return run, json.loads(store.fetch(past.run_id, "grid.json").read_text())


def test_a_grid_is_tried_and_the_best_point_is_tested(tmp_path: Path) -> None:
    project = Project(tmp_path, steps=30)
    project.submit()
    run, grid = project.result()
    scores = {point["name"]: point["numbers"]["score"] for point in grid["points"]}
    assert list(scores) == [f"lr={lr} weight_decay={decay}" for lr in ("0.003", "0.1") for decay in ("0", "0.0001")]
    best = grid["chosen"][""]
    assert scores[best] == max(scores.values())
    assert f"lr={run.metrics['chosen_lr']:g} weight_decay={run.metrics['chosen_weight_decay']:g}" == best
    trial = {point["numbers"]["images"] for point in grid["points"]}
    assert trial == {run.metrics["images"] - round(run.metrics["images"] / 10)}  # a tenth is held out of each trial
    log = (project.stage() / "log.txt").read_text()
    assert "trial 4 of 4 ended: " in log
    assert f"chosen: {best} with" in log
    assert not (project.stage() / "tune").exists()
    lines = [json.loads(line) for line in (project.stage() / "journal.jsonl").read_text().splitlines()]
    shares = [line["p"][2] for line in lines if "p" in line]
    assert shares == sorted(shares)  # of trials first, then of the last training
    assert {0.2, 0.8, 1.0} <= set(shares)


@pytest.mark.slow
def test_a_point_that_diverges_loses_and_a_grid_of_such_points_fails(tmp_path: Path) -> None:
    project = Project(tmp_path, steps=30, lrs="[1.0e+30]")
    output = project.submit(code=3)
    assert "grid: the loss diverged at every point; lower the learning rates" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_repeats_no_trial_and_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    calm, struck = tmp_path / "calm", tmp_path / "struck"
    for folder in (calm, struck):
        folder.mkdir()
    expected = Project(calm, steps=60)
    expected.submit()
    project = Project(struck, steps=60)
    process = project.start()
    deadline = time.monotonic() + 300
    while len(project.ended_trials()) < 1:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no trial ended"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()
    time.sleep(2)  # Ray's processes end a moment later
    before = {path: path.stat().st_mtime_ns for path in project.ended_trials()}
    assert len(before) < 4
    project.submit()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (run, grid), (calm_run, calm_grid) = project.result(), expected.result()
    assert grid == calm_grid
    for name in ("top1", "mean_per_class", "score", "images", "chosen_lr", "chosen_weight_decay"):
        assert run.metrics[name] == calm_run.metrics[name]
