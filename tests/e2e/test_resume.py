"""Kill anything, submit again: the same runs go on, and end with the very numbers of an undisturbed run."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from orchestration.storage import Home
from orchestration.tracking import Store

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
PIPELINE = """
# One small pre-training and a linear evaluation of it.
title: small
stages:
  pretrain:
    params:
      dataset: mnist5k
      method: leoclr
      settings: {temperature: 0.1, momentum: 0.99, queue_size: 256}
      backbone: resnet18
      width: 4
      stem: stride2
      image_size: 28
      epochs: 2
      batch: 64
      lr: 0.01
      knn_every: 1
    resources: {workers: WORKERS, cpus_per_worker: 0.5, checkpoint_every_steps: 10}
  linear:
    needs: [pretrain]
    params: {dataset: mnist5k, protocol: small, settings: {epochs: 3}}
"""
MEASURED = ("system/", "images_per_s")  # by the clock: differ from run to run


class Project:
    """A folder with a pipeline file and a home."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.home = folder, Home(folder / "home")
        (folder / "small.yaml").write_text(PIPELINE.replace("WORKERS", str(workers)))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, "submit", "small.yaml"],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> str:
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def journal(self) -> list[dict[str, Any]]:
        """The whole lines of the journal of the pre-training, which is the first stage to have one."""
        for path in (self.home.path / "stages").glob("*/journal.jsonl"):
            lines = path.read_text().split("\n")[:-1]
            return [json.loads(line) for line in lines]
        return []

    def wait_for_step(self, step: int, process: subprocess.Popen[str]) -> None:
        """Wait until the pre-training has passed `step`; a checkpoint lies behind it and an epoch is under way."""
        deadline = time.monotonic() + 240  # a busy machine takes minutes to start two workers
        while not any(line.get("s", 0) >= step for line in self.journal()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the pre-training did not get there"
            time.sleep(0.05)

    def cli(self, *arguments: str) -> str:
        environment = os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)}
        return subprocess.run(
            [COMMAND, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    def result(self) -> dict[str, Any]:
        """All that the pre-training left: run id, weights, states and the history of each metric."""
        store = Store.open(self.home)
        (run,) = (run for run in store.past_runs() if run.stage == "pretrain")
        assert run.reusable
        state = torch.load(store.fetch(run.run_id, "checkpoint.pt"), weights_only=True)
        client = store._client  # the history of a metric is not part of the product's own interface
        names = [name for name in client.get_run(run.run_id).data.metrics if not name.startswith(MEASURED)]
        history = {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run.run_id, name))
            for name in names
        }
        return {
            "run_id": run.run_id,
            "backbone": load_file(store.fetch(run.run_id, "backbone.safetensors")),
            "state": state["work"],
            "history": history,
        }


def assert_same(left: Any, right: Any) -> None:
    """Compare nested states; tensors bit for bit."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What an undisturbed run with so many workers leaves; each is run once."""

    @functools.cache
    def run(workers: int) -> dict[str, Any]:
        project = Project(tmp_path_factory.mktemp("calm"), workers)
        project.finish()
        return project.result()

    return run


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def kill_driver(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()  # Ray's processes, which end a moment later, may hold the other end


def kill_worker(process: subprocess.Popen[str]) -> None:
    """Kill a process that trains: Ray names its processes after what they run."""
    names = ("ray::fit", "ray::pretrain", "RayTrainWorker")
    found = [child for child in children(process) if any(name in " ".join(child.cmdline()) for name in names)]
    trainers = [child for child in found if "RayTrainWorker" in " ".join(child.cmdline())] or found
    assert trainers, [child.cmdline() for child in children(process)]
    trainers[-1].kill()


def kill_controller(process: subprocess.Popen[str]) -> None:
    """Kill what leads the worker group; it leaves its workers and what they held behind."""
    (leader,) = [child for child in children(process) if "TrainController" in " ".join(child.cmdline())]
    leader.kill()


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output


@pytest.mark.parametrize(
    ("workers", "strike"),
    [
        (1, kill_driver),
        (1, kill_worker),
        (1, interrupt),
        pytest.param(2, kill_worker, marks=pytest.mark.slow),
        pytest.param(2, kill_driver, marks=pytest.mark.slow),
        pytest.param(2, kill_controller, marks=pytest.mark.slow),
    ],
)
def test_a_struck_run_ends_like_an_undisturbed_one(
    calm: Callable[[int], dict[str, Any]], workers: int, strike: Callable[[subprocess.Popen[str]], None], tmp_path: Path
) -> None:
    expected = calm(workers)
    project = Project(tmp_path, workers)
    process = project.start()
    project.wait_for_step(75, process)  # in the second of two epochs of 62 steps; every tenth step is a checkpoint
    strike(process)
    if strike in (kill_worker, kill_controller):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "attempt 2 of 3" in output
    else:
        (submission,) = json.loads(project.cli("status", "--json"))
        assert submission["state"] == "stopped"
        assert not [stage for stage in submission["stages"] if stage["state"] == "running"]
        project.finish()
    logs = "".join(path.read_text() for path in (project.home.path / "stages").glob("*/log.txt"))
    assert re.search(r"continues from checkpoint 00000\d+: epoch 1, step [1-9]", logs), logs  # in mid-epoch
    found = project.result()
    assert_same(found["backbone"], expected["backbone"])
    assert_same(found["state"], expected["state"])
    assert found["history"] == expected["history"]
    (submission,) = json.loads(project.cli("status", "--json"))
    assert submission["state"] == "done"
