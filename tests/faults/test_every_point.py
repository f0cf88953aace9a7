"""A submission is killed at every point where it changes something, and submitted again: all ends as if nothing was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import proof
from tests.faults.points import KILLED, Ending

ROOT = Path(__file__).parents[2]
FEW = 4  # points of the fast suite
PIPELINE = """
title: tiny
stages:
  pretrain:
    params: {dataset: digits, method: leoclr, backbone: resnet18, width: 2, stem: stride2, image_size: 16, epochs: 2,
             batch: 400, lr: 0.01, knn_every: 1, settings: {temperature: 0.1, momentum: 0.9, queue_size: 64}}
    resources: {compile: "off", checkpoint_every_steps: 2}
  knn:
    needs: [pretrain]
    params: {dataset: digits, protocol: small}
"""


class Nursery:
    """Starts submissions quickly, each in a process of its own; `calm` is what an undisturbed one leaves."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.faults.nursery", str(self.place("warm"))]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", (folder / "warm/output.txt").read_text()
        self.calm = self.place("calm")
        assert self.submit(self.calm) == 0, (self.calm / "output.txt").read_text()

    def place(self, name: str) -> Path:
        """Make a folder with a pipeline in it."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "tiny.yaml").write_text(PIPELINE)
        if (empty := self._folder / "warm/empty.db").exists():
            (folder / "home").mkdir()
            shutil.copy(empty, folder / "home/mlflow.db")
        return folder

    def submit(self, folder: Path, end_at: Ending | None = None) -> int:
        """Submit there; return the exit code."""
        return self.command(folder, ["submit", "tiny.yaml"], end_at)

    def command(self, folder: Path, words: list[str], end_at: Ending | None = None) -> int:
        """Run a command there; return the exit code."""
        assert self._process.stdin and self._process.stdout
        order = {"folder": str(folder), "words": words, "end_at": end_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    own = Nursery(tmp_path_factory.mktemp("faults"))
    yield own
    own.close()


@pytest.fixture(scope="module")
def calm(nursery: Nursery) -> dict[str, Any]:
    return proof.of(nursery.calm)


def points(nursery: Nursery) -> list[Ending]:
    return [(str(name), int(visit)) for name, visit in json.loads((nursery.calm / "points.json").read_text())]


def strike(nursery: Nursery, calm: dict[str, Any], point: Ending) -> bool:
    """Kill a submission at a point, submit again, compare; return whether it came there: threads take turns."""
    folder = nursery.place("".join(c if c.isalnum() else "-" for c in f"{point[0]}-{point[1]}")[-100:])
    code = nursery.submit(folder, point)
    assert code in (KILLED, 0), (point, (folder / "output.txt").read_text())
    assert nursery.submit(folder) == 0, (point, (folder / "output.txt").read_text())
    found = proof.of(folder)
    if found["files"] != calm["files"]:  # drafts that nobody reads
        sweep(nursery, folder)
        found |= {"files": proof.of(folder)["files"]}
    for what, expected in calm.items():
        assert found[what] == expected, (point, what)
    shutil.rmtree(folder)
    return code == KILLED


def sweep(nursery: Nursery, folder: Path) -> None:
    """Let hours go by, and repair."""
    long_ago = time.time() - 7200
    for path in (folder / "home").rglob(".*"):
        os.utime(path, (long_ago, long_ago))
    assert nursery.command(folder, ["reconcile"]) == 0, (folder / "output.txt").read_text()


@pytest.mark.slow
def test_the_points_are_those_that_matter(nursery: Nursery, calm: dict[str, Any]) -> None:
    names = {name for name, _ in points(nursery)}
    assert {"mlflow create_run", "mlflow log_batch", "mlflow set_terminated", "mlflow log_artifact"} <= names
    assert "rename stages/STAGE/.result-PID stages/STAGE/result" in names
    assert "rename stages/STAGE/checkpoints/.draft-PID stages/STAGE/checkpoints/00000002" in names
    assert "rename stages/STAGE/.run.json.RANDOM stages/STAGE/run.json" in names
    assert calm["runs"] == {"pretrain": ["FINISHED"], "knn": ["FINISHED"]}
    assert len(calm["histories"]["pretrain"]) > 10


@pytest.mark.slow
def test_killed_at_a_few_points(nursery: Nursery, calm: dict[str, Any]) -> None:
    every = points(nursery)
    assert sum(strike(nursery, calm, point) for point in every[3 :: len(every) // FEW])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_point(nursery: Nursery, calm: dict[str, Any], part: int) -> None:
    every = points(nursery)[part::4]
    came = sum(strike(nursery, calm, point) for point in every)
    assert came > 0.8 * len(every)
