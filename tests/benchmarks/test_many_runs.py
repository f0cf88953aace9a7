"""The store that benchmarks fill is one that the product could have filled, and asking it stays quick."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import many_runs, over_runs
from orchestration import records
from orchestration.plan import State
from orchestration.prepare import prepare
from orchestration.reconcile import reconcile
from orchestration.spec import load
from orchestration.storage import Home
from orchestration.tracking import Store

ROOT = Path(__file__).parents[2]
PIPELINE = """
title: two stages
matrix: {seed: [0, 1]}
stages:
  pretrain: {params: {dataset: digits, method: random, epochs: 0}}
  knn: {needs: [pretrain], params: {dataset: digits, protocol: small}}
"""
LIMIT_MB = 200.0


def test_copies_are_whole_submissions_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file, home = tmp_path / "two.yaml", Home(tmp_path / "home")
    file.write_text(PIPELINE)
    made = many_runs.fill(home, 15, str(file))
    store = Store.open(home)
    assert reconcile(store) == []
    submissions, past = store.submissions(), store.past_runs()
    assert (len(submissions), len(past)) == (3, 12)
    assert len({run.fingerprint for run in past}) == len({run.run_id for run in past}) == 12
    assert [each.started_ms - each.attempt_ms for each in submissions] == [0, 0, 0]
    for each in submissions:
        runs = store.stage_runs(each.run_ids)
        assert len(runs) == 4
        assert {run.parent for run in runs.values()} == {each.run_id}
        assert {len(run.metrics) for run in runs.values()} == {many_runs.METRICS}
        inputs = {own for run in runs.values() for own in json.loads(run.tags[records.INPUTS]).values()}
        assert inputs <= {run.tags[records.FINGERPRINT] for run in runs.values()}
    assert {stage.state for stage in prepare(load(str(file)), home, store).stages} == {State.DONE}
    assert {stage.run_id for stage in made.stages} == {None}  # of the plan before


def test_a_copied_home_is_one_that_was_filled_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file, home, other = tmp_path / "two.yaml", Home(tmp_path / "home"), Home(tmp_path / "other")
    file.write_text(PIPELINE)
    many_runs.fill(home, 5, str(file))
    many_runs.copied(home, other)
    many_runs.multiply(other.database, 15)
    shutil.rmtree(home.path)
    store = Store.open(other)
    assert reconcile(store) == []
    assert len(store.past_runs()) == 12
    assert {stage.state for stage in prepare(load(str(file)), other, store).stages} == {State.DONE}


@pytest.mark.slow
def test_ten_thousand_runs_are_asked_in_little_memory(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name, runs in {"small": 46, "large": 10_000}.items():
        words = ["benchmarks.many_runs", str(tmp_path / name), "--runs", str(runs)]
        subprocess.run([sys.executable, "-m", *words], env=environment, cwd=ROOT, check=True)
    for command in over_runs.COMMANDS:
        words = ["benchmarks.over_runs", command, str(tmp_path / "small"), str(tmp_path / "large"), "3"]
        done = subprocess.run(
            [sys.executable, "-m", *words], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["megabytes"] < LIMIT_MB, command


def wide(home: Path, arms: int, *more: str) -> dict[str, Any]:
    """Submit so many stages at once, see `many_stages`."""
    words = ["tests.benchmarks.many_stages", str(home), str(arms), *more]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_twice_the_stages_are_twice_the_work_in_every_part(tmp_path: Path) -> None:
    once, twice = (wide(tmp_path / f"{arms}" / "home", arms, "--count") for arms in (40, 80))
    for part, calls in once["calls"].items():
        assert twice["calls"][part] < 2.3 * calls, part  # a quadratic part alone would be 4 times as much


@pytest.mark.slow
def test_a_thousand_stages_run_at_once_beside_ten_thousand_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ["benchmarks.many_runs", str(home), "--runs", "10000"]
    subprocess.run([sys.executable, "-m", *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True)
    found = wide(home, 1000)
    assert found["most"] == 1000
    assert found["runs"] > 10_700  # without those of the submissions
    assert found["megabytes"] < LIMIT_MB
