"""Small sweeps of each kind for real: grid, killed and continued, stopped early, diverged, searched, canceled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestration.records import StageRun, Submission
from orchestration.storage import Home
from orchestration.sweep.ledger import Ledger
from orchestration.tracking import Store

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
BASE = """
stages:
  pretrain:
    params:
      {dataset: digits, method: moco_v2, settings: {queue_size: 64, blur_p: 0.0, crop_scale: [0.5, 1.0]},
       backbone: resnet18, width: 2, stem: stride2, image_size: 16, epochs: 2, batch: 64, knn_every: 1}
    resources: {cpus_per_worker: 0.5, checkpoint_every_steps: 5}
  linear:
    needs: [pretrain]
    params: {dataset: digits, protocol: small, settings: {epochs: 1}}
    resources: {cpus_per_worker: 0.5}
"""
GRID = """
title: temperature by epochs of the probe
base: base.yaml
axes:
  pretrain.params.settings.temperature: [0.1, 0.2]
  linear.params.settings.epochs: [1, 2]
objectives:
  linear top-1: {stage: linear, metric: top1}
"""


class Project:
    """A folder with a base, a sweep and a home; `start` is what a user types there."""

    def __init__(self, folder: Path, sweep: str) -> None:
        self.folder, self.home = folder, Home(folder / "home")
        (folder / "base.yaml").write_text(BASE)
        (folder / "s.yaml").write_text(sweep)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def cli(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output

    def status(self, name: str = "s") -> dict[str, Any]:
        process = subprocess.run(
            [COMMAND, "status", name, "--json"],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(process.stdout)
        return found

    def states(self, name: str = "s") -> list[str]:
        return [trial["state"] for trial in self.status(name)["trials"]]

    def ledger(self, name: str = "s") -> Ledger:
        return Ledger(self.home.path / "sweeps" / name / "1")

    def store(self) -> Store:
        return Store.open(self.home)

    def trials(self) -> list[Submission]:
        return sorted(self.store().submissions(), key=lambda each: each.started_ms)

    def stages(self, name: str) -> list[StageRun]:
        store = self.store()
        runs = store.stage_runs(run.run_id for run in store.past_runs())
        return [run for run in runs.values() if run.stage == name]

    def logs(self) -> list[str]:
        return [path.read_text() for path in (self.home.path / "stages").glob("*/log.txt")]


def test_a_grid_is_one_object_and_the_same_command_runs_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, GRID)
    printed = project.cli("sweep", "s.yaml")
    assert project.states() == ["done"] * 4
    (sweep,) = project.store().sweeps()
    assert sweep.status == "FINISHED"
    trials = project.trials()
    assert [trial.sweep for trial in trials] == ["s"] * 4
    client = project.store()._client  # tags are not part of the product's own interface
    for trial in trials:
        tags = client.get_run(trial.run_id).data.tags
        assert tags["mlflow.parentRunId"] == sweep.run_id
        assert {tags["leoclr.axis.temperature"], tags["leoclr.axis.linear epochs"]} <= {"0.1", "0.2", "1", "2"}
    assert len(project.stages("pretrain")) == 2  # trials that differ in the probe alone share one
    assert len(project.stages("linear")) == 4
    folder = tmp_path / "sweep-s"
    written = {path.name for path in folder.iterdir()}
    assert {"table.md", "trials.csv"} < written
    assert {".png", ".svg"} <= {Path(name).suffix for name in written}
    kept = {file.path for file in client.list_artifacts(sweep.run_id)}
    assert written <= kept
    for trial in project.status()["trials"]:
        assert f"{trial['values']['linear top-1']:.1f}" in printed
    begun = time.monotonic()
    again = project.cli("sweep", "s.yaml")
    assert "linear top-1" in again
    assert "started" not in again
    assert time.monotonic() - begun < 60
    assert len(project.trials()) == 4


@pytest.mark.slow
def test_another_question_is_refused_and_a_new_sweep_reuses_the_stages(tmp_path: Path) -> None:
    project = Project(tmp_path, GRID.replace("[1, 2]", "[1]"))
    project.cli("sweep", "s.yaml")
    said = project.cli("sweep", "s.yaml", "--set", "linear.params.settings.batch=64", code=1)
    assert "the sweep of this name asks something else" in said
    assert "base.linear.settings.batch" in said
    assert "--new" in said
    (tmp_path / "s.yaml").write_text(GRID)
    assert "axes.linear.params.settings.epochs.grid [1] -> [1, 2]" in project.cli("sweep", "s.yaml", code=1)
    planned = project.cli("sweep", "s.yaml", "--new", "--dry-run")
    assert "4 trials of" in planned
    assert len(re.findall("runs linear$", planned, re.MULTILINE)) == 2
    project.cli("sweep", "s.yaml", "--new")
    assert project.states() == ["done"] * 4
    assert len(project.stages("pretrain")) == 2
    assert len(project.stages("linear")) == 4


def wait_for(what: Any, process: subprocess.Popen[str], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come that far"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_no_trial_runs_twice(tmp_path: Path) -> None:
    long = GRID.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3]").replace("[1, 2]", "[1]") + "concurrency: 1\n"
    project = Project(tmp_path, long + "set: {pretrain.params.epochs: 6}\n")
    process = project.start("sweep", "s.yaml")

    def in_the_second_trial() -> bool:
        ledger = project.home.path / "sweeps" / "s" / "1" / "ledger.jsonl"
        made = ledger.read_text().count('"point"') if ledger.exists() else 0
        checkpoints = list((project.home.path / "stages").glob("*/checkpoints/0*"))
        return made == 2 and bool(checkpoints)

    wait_for(in_the_second_trial, process)
    kill(process)
    seen = project.status()
    assert seen["state"] == "stopped"
    assert [trial["state"] for trial in seen["trials"]] == ["done", "waiting"]
    before = {trial["number"]: trial["run_id"] for trial in seen["trials"]}
    project.cli("sweep", "s.yaml")
    seen = project.status()
    assert [trial["state"] for trial in seen["trials"]] == ["done"] * 3
    assert before.items() <= {trial["number"]: trial["run_id"] for trial in seen["trials"]}.items()
    assert len(project.trials()) == 3
    assert len(project.stages("pretrain")) == len(project.stages("linear")) == 3
    assert any("continues from checkpoint" in log for log in project.logs())
    assert sum(log.count("pretrain starts on") for log in project.logs()) == 3


def kill(process: subprocess.Popen[str]) -> None:
    """End a driver as a power cut would, and wait until Ray has seen it."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()
    psutil.wait_procs(family, timeout=30)


@pytest.mark.slow
def test_a_killed_population_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    population = """
base: base.yaml
set: {pretrain.params.epochs: 3}
axes:
  pretrain.params.lr: {loguniform: [0.005, 0.3]}
  pretrain.params.settings.temperature: [0.05, 0.1, 0.2]
objectives:
  linear top-1: {stage: linear, metric: top1}
search: {kind: random, seed: 0}
scheduler: {kind: pbt, population: 3, interval: 1}
"""
    projects = []
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        projects.append(Project(tmp_path / name, population))
    calm, killed = projects
    printed = calm.cli("sweep", "s.yaml")
    assert "Schedules" in printed
    process = killed.start("sweep", "s.yaml")
    wait_for(lambda: (killed.ledger().folder / "ledger.jsonl").exists() and len(killed.ledger().entries) >= 5, process)
    kill(process)
    killed.cli("sweep", "s.yaml")
    ends = [
        [(each.number, each.point, each.before, each.state, each.values, each.history) for each in of.entries.values()]
        for of in (calm.ledger(), killed.ledger())
    ]
    assert ends[0] == ends[1]
    assert [state for _, _, _, state, _, _ in ends[0]] == ["stopped"] * 6 + ["done"] * 3
    lineages = {json.dumps([*before, point]) for _, point, before, _, _, _ in ends[0][6:]}
    shared = {json.dumps(lineage[:2]) for lineage in map(json.loads, lineages)}
    assert len(shared) < 3, "one of them went on from another"
    trained = {json.dumps([*before, point]) for _, point, before, _, _, _ in ends[0]}
    assert [len(each.stages("pretrain")) for each in (calm, killed)] == [len(trained)] * 2  # each part of a way once


@pytest.mark.slow
def test_bad_trials_are_stopped_early_and_say_so(tmp_path: Path) -> None:
    rates = GRID.replace("settings.temperature: [0.1, 0.2]", "lr: [0.03, 1.0e-9, 2.0e-9, 3.0e-9]").replace(
        "[1, 2]", "[1]"
    )
    tail = "scheduler: {kind: asha, grace: 1, reduction: 2}\nset: {pretrain.params.epochs: 12}\nconcurrency: 1\n"
    project = Project(tmp_path, rates + tail)
    project.cli("sweep", "s.yaml")
    trials = project.status()["trials"]
    stopped = [trial for trial in trials if trial["state"] == "stopped"]
    assert trials[0]["state"] == "done"
    assert stopped
    client = project.store()._client
    for trial in stopped:
        assert trial["reason"].startswith("asha at epoch ")
        assert int(trial["reason"].split()[3].rstrip(",")) < 12
        run = client.get_run(trial["run_id"])
        assert run.info.status == "KILLED"
        assert run.data.tags["leoclr.stopped"] == trial["reason"]
    (told,) = [entry for number, entry in project.ledger().entries.items() if number == 0]
    assert [epoch for epoch, _ in told.history] == list(range(1, 13))  # the last one too, which stops nobody
    killed = [run for run in project.stages("pretrain") if run.status == "KILLED"]
    assert len(killed) == len(stopped)
    assert "stopped" in (tmp_path / "sweep-s" / "table.md").read_text()


@pytest.mark.slow
def test_what_diverges_is_a_result_and_what_fails_leaves_the_others_running(tmp_path: Path) -> None:
    points = """
  fate:
    well: {}
    diverges: {pretrain.params.lr: 1.0e+30}
    cannot: {linear.resources.cpus_per_worker: 4096}
"""
    text = GRID[: GRID.index("  pretrain")] + points.strip("\n") + "\n" + GRID[GRID.index("objectives") :]
    project = Project(tmp_path, text)
    said = project.cli("sweep", "s.yaml", code=3)
    assert project.states() == ["done", "diverged", "failed"]
    assert "trials failed:" in said and "needs 4096 CPUs" in said
    assert "Traceback" not in said
    table = (tmp_path / "sweep-s" / "table.md").read_text()
    assert "diverged" in table and "failed" in table
    assert len(project.stages("linear")) == 1
    fine = project.cli("sweep", "s.yaml", "--new", "--set", "axes.fate=[well, diverges]")
    assert project.states() == ["done", "diverged"]
    assert "diverged" in fine
    guard = "guards.spread={stage: pretrain, metric: query_spread, floor: 9}"  # none reaches 9
    project.cli("sweep", "s.yaml", "--new", "--set", "axes.fate=[well]", "--set", guard)
    (trial,) = project.status()["trials"]
    assert trial["state"] == "diverged"
    assert re.fullmatch(r"spread ended at 0\.\d+, at most 9", trial["reason"])
    assert len(project.stages("linear")) == 1  # reused


@pytest.mark.slow
@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_search_ends_with_its_budget(tmp_path: Path, search: str) -> None:
    ranges = GRID.replace("[0.1, 0.2]", "{loguniform: [0.05, 0.5]}").replace("[1, 2]", "{int: [1, 3]}")
    project = Project(tmp_path, ranges + f"search: {search}\nbudget: {{trials: 3}}\nseeds: [0, 1]\n")
    project.cli("sweep", "s.yaml")
    assert project.states() == ["done"] * 3
    for trial in project.trials():
        assert set(trial.arms) == {"seed=0", "seed=1"}
    project.cli("sweep", "s.yaml", "--set", "budget.trials=4")
    assert project.states() == ["done"] * 4


@pytest.mark.slow
def test_two_sweeps_at_once_compute_each_stage_once(tmp_path: Path) -> None:
    project = Project(tmp_path, GRID.replace("[1, 2]", "[1]"))
    (tmp_path / "t.yaml").write_text(GRID)
    project.store()  # its database is made before both want to
    processes = [project.start("sweep", f"{name}.yaml") for name in ("s", "t")]
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    assert (project.states("s"), project.states("t")) == (["done"] * 2, ["done"] * 4)
    assert len(project.stages("pretrain")) == 2
    assert len(project.stages("linear")) == 4
    assert sum(log.count("pretrain starts on") for log in project.logs()) == 2


@pytest.mark.slow
def test_a_sweep_stops_when_its_hours_are_spent(tmp_path: Path) -> None:
    project = Project(tmp_path, GRID + "set: {pretrain.params.epochs: 4000}\nbudget: {hours: 0.005}\n")
    said = project.cli("sweep", "s.yaml")
    assert "the budget of 0.005 hours is spent; with a larger `budget.hours` the same command goes on" in said
    assert set(project.states()) == {"waiting"}
    (sweep,) = project.store().sweeps()
    assert sweep.status == "KILLED"
    assert {run.status for run in project.stages("pretrain")} == {"KILLED"}
    assert 18 <= project.ledger().spent_s < 28  # 0.005 hours are 18 s


@pytest.mark.slow
def test_cancel_ends_all_of_it_within_ten_seconds(tmp_path: Path) -> None:
    project = Project(tmp_path, GRID + "set: {pretrain.params.epochs: 400}\n")
    process = project.start("sweep", "s.yaml")
    wait_for(lambda: list((project.home.path / "stages").glob("*/journal.jsonl")), process)
    assert "running" in project.states()
    family = psutil.Process(process.pid).children(recursive=True)
    said = project.cli("cancel", "s")
    assert "stopped sweep s" in said
    assert "had to be killed" not in said  # all of it ended by itself within the ten seconds that it is given
    assert process.wait(5) == 130
    assert process.stdout
    process.stdout.close()
    gone, alive = psutil.wait_procs(family, timeout=3)
    assert not alive, [each.name() for each in alive]
    assert gone
    assert project.status()["state"] == "stopped"
    (sweep,) = project.store().sweeps()
    assert sweep.status == "KILLED"
    assert {trial.status for trial in project.trials()} == {"KILLED"}
    assert {run.status for run in project.stages("pretrain")} == {"KILLED"}
