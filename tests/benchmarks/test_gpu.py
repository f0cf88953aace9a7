"""The GPU benchmark runs to its end with torch and torchvision alone, and its rows say what holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import PARTS, Report
from benchmarks.gpu_peers import Plain
from benchmarks.gpu_timing import Clock, Row, rate
from benchmarks.step_peers import Ours, Size, noise
from leoclr.methods.contract import Batch

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
ALONE = """
import runpy, sys
blocked = {"boto3", "jobs", "kornia", "lightly", "matplotlib", "mlflow", "mlxtend", "optuna", "orchestration", "psutil",
    "pydantic", "ray", "rich", "safetensors", "scipy", "sklearn", "timm", "typer", "yaml"}
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_a_row_says_whether_its_goal_holds() -> None:
    assert [Row("a", 2.0, "", goal=goal, at_most=at_most).holds for goal, at_most in ((0, False), (2, False))] == [
        None,
        True,
    ]
    assert not Row("a", 2.1, "", goal=2, at_most=True).holds
    assert str(rate("r", 8, [0.5, 1.0, 2.0], goal=9)) == "| r | 8 img/s | 4 to 16 | >= 9 | no |  |"


def test_a_clock_counts_repetitions_and_not_what_comes_before() -> None:
    calls: list[int] = []
    found = Clock(CPU, steps=3, repetitions=2, warm_up=4).seconds(lambda: calls.append(0))
    assert (len(found), len(calls)) == (2, 4 + 2 * 3)


def test_a_report_finds_the_first_row_of_some_words(tmp_path: Path) -> None:
    report = Report({"device": "none"}, tmp_path / "a" / "gpu.json")
    report.add(Row("LeOCLR eager", 1.0, "img/s"))
    report.add(Row("LeOCLR compiled", 2.0, "img/s", goal=3.0))
    assert (report.value("LeOCLR"), report.value("LeOCLR", "compiled"), report.value("BYOL")) == (1.0, 2.0, 0.0)
    report.write()
    assert [row["holds"] for row in json.loads(report.path.read_text())["rows"]] == [None, False]


@pytest.mark.slow
def test_it_runs_to_its_end_with_torch_and_torchvision_alone(tmp_path: Path) -> None:
    written = tmp_path / "gpu.json"
    words = [sys.executable, "-c", ALONE, "--device", "cpu", "--quick", "--out", str(written)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    names = [row["name"] for row in found["rows"]]
    assert found["left_out"] == []
    assert not any("failed" in row["note"] for row in found["rows"])
    told = ("LeOCLR", "plain loop", "augmentation", "data wait", "on the device", "features", "MoCo-v2", "SimCLR")
    assert all(any(word in name for name in names) for word in told)
    assert not any("lightly" in name for name in names)  # it is not installed there
    assert all(row["value"] > 0 for row in found["rows"] if row["unit"] == "img/s")


def test_the_plain_loop_is_leoclr() -> None:
    torch.manual_seed(0)
    size = Size("resnet18", "stride2", side=16, batch=4, width=4)
    views, ours, plain = noise(size, 3, CPU), Ours("leoclr", size, CPU), Plain(size, CPU)
    method: Any = ours.stepper.method
    for network in (plain.fast, plain.slow):
        network[0].load_state_dict(method.backbone.state_dict())
        network[1].load_state_dict(method.head.state_dict())
    plain.queue.copy_(method.queue.keys_KD.T)
    expected = method(Batch(views)).loss.item()
    plain.take(views)
    assert plain.seen[-1] == pytest.approx(expected, rel=1e-5)


def test_an_unknown_part_is_refused_by_name() -> None:
    words = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--only", "files,everything"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 2
    assert f"no part is called everything; there are {', '.join(PARTS)}" in done.stderr
