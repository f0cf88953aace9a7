"""Kill anything, submit again: the same runs go on, and end with the very numbers of an undisturbed run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.project import Project, assert_same

pytestmark = pytest.mark.e2e


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
        pytest.param(1, interrupt, marks=pytest.mark.slow),
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
