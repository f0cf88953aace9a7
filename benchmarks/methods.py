"""Show that every method learns, and what a training step of each costs beside MoCo-v2's.

    python -m benchmarks.methods [--home DIR] [--device cpu|cuda] [--epochs N] [--width N] [--only table|cost]

First runs the pipeline `methods` in a fresh home and prints its table, and which methods do not beat the control. Then
times the steps of each method and MoCo-v2 in turn, on the same images and backbone: the median ratio of neighbors, the
least and the greatest, beside what theory has. Writes build/methods.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.step_cost import Cost, Subject, costs, theory
from jobs.pretrain import PretrainParams
from orchestration import spec
from orchestration.spec import Arm, PipelineSpec

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
PIPELINE = "methods"
CONTROL, REFERENCE = "random", "moco_v2"  # labels of the pipeline's arms
COLUMNS = ("linear top-1", "kNN top-1")  # in which a method has to beat the control
ROUNDS = 7  # pairs of timings, an odd number: the median is one of them


def main() -> None:
    """Run and print."""
    asked = _arguments()
    pipeline = spec.load(PIPELINE, overrides(epochs=asked.epochs, width=asked.width))
    figures: dict[str, object] = {"machine": machine(asked.device)}
    print(figures["machine"])
    if asked.only != "cost":
        with tempfile.TemporaryDirectory() as temporary:
            figures |= _learned(asked.home or Path(temporary), overrides(epochs=asked.epochs, width=asked.width))
    if asked.only != "table":
        figures["cost"] = _cost(pipeline, torch.device(asked.device))
    written = Path("build", "methods.json")
    written.parent.mkdir(exist_ok=True)
    other = json.loads(written.read_text()) if asked.only and written.exists() else {}  # the part not asked for stays
    written.write_text(json.dumps(other | figures, indent=1))


def overrides(*, epochs: int | None, width: int | None) -> list[str]:
    """Return the `--set` values of a larger or smaller run.

    >>> overrides(epochs=2, width=None)
    ['pretrain.params.epochs=2']
    """
    asked = {"epochs": epochs, "width": width}
    return [f"pretrain.params.{name}={value}" for name, value in asked.items() if value is not None]


def behind(table: str, columns: Sequence[str] = COLUMNS) -> list[str]:
    """Return a line for each row and column of a table (CSV) whose mean does not clearly exceed the control's.

    Clearly: by more than the larger of both standard deviations over the seeds.
    """
    rows = list(csv.DictReader(io.StringIO(table)))
    control = next(row for row in rows if "control" in row["row"])
    others = [row for row in rows if row is not control]
    return [line for row in others for column in columns if (line := _verdict(row, control, column))]


def machine(device: str) -> str:
    """Return what the timings were taken on."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    cores = len(os.sched_getaffinity(0))
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="an empty folder for the runs; a temporary one unless named")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where steps are timed")
    parser.add_argument("--epochs", type=int, help="of every pre-training, instead of the pipeline's")
    parser.add_argument("--width", type=int, help="of the backbone, instead of the pipeline's")
    parser.add_argument("--only", choices=("table", "cost"), help="one part alone")
    return parser.parse_args()


def _learned(home: Path, changes: Sequence[str]) -> dict[str, object]:
    """Run the pipeline, print its table, and return both."""
    sets = [word for change in changes for word in ("--set", change)]
    _run("submit", PIPELINE, *sets, home=home)
    markdown, table = (_run("table", PIPELINE, "--format", form, home=home) for form in ("md", "csv"))
    lines = behind(table)
    print(f"\n{markdown}")
    print(
        "\nEvery method beats the control."
        if not lines
        else "\n".join(["\nNot every method beats the control:", *lines])
    )
    return {"table": markdown, "cells": table, "behind": lines}


def _run(*words: str, home: Path) -> str:
    """Return what leoclr-ops prints. Raises: CalledProcessError when it fails."""
    environment = os.environ | {"LEOCLR_OPS_HOME": str(home)}
    return subprocess.run([COMMAND, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _verdict(row: Mapping[str, str], control: Mapping[str, str], column: str) -> str:
    """Return what is wrong with a row; "" where it is clearly above the control."""
    if not row[column]:
        return f"{row['row']}, {column}: {row[column + ' missing']}"
    gap = float(row[column]) - float(control[column])
    spread = max(float(each[column + " std"] or "inf") for each in (row, control))
    return "" if gap > spread else f"{row['row']}, {column}: {gap:+.1f} from the control, spread {spread:.1f}"


def _cost(pipeline: PipelineSpec, device: torch.device) -> dict[str, dict[str, float]]:
    """Time, print a table, and return its numbers."""
    print(
        "\n| step, times MoCo-v2's | theory | operations | without loading | with loading |\n|---|---:|---:|---:|---:|"
    )
    figures = {}
    for label, expected, cost in _measured(pipeline, device):
        plain, loaded = (_spread(ratios) for ratios in (cost.steps, cost.loaded))
        print(f"| {label} | {expected:.2f} | {cost.operations:.2f} | {plain} | {loaded} |", flush=True)
        figures[label] = {"theory": expected, "operations": cost.operations, **_numbers(cost)}
    return figures


def _measured(pipeline: PipelineSpec, device: torch.device) -> Iterator[tuple[str, float, Cost]]:
    """Yield label, theory and cost of each method that trains."""
    params = {arm.labels["method"]: _params(arm) for arm in pipeline.arms}
    reference = Subject(params[REFERENCE], device)
    for label, own in params.items():
        if label not in (CONTROL, REFERENCE):
            yield label, theory(own) / theory(params[REFERENCE]), costs(Subject(own, device), reference, rounds=ROUNDS)


def _params(arm: Arm) -> PretrainParams:
    found = arm.stages["pretrain"].params
    assert isinstance(found, PretrainParams)
    return found


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _numbers(cost: Cost) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind, ratios in (("steps", cost.steps), ("loaded", cost.loaded)):
        found |= {f"{kind}_median": statistics.median(ratios), f"{kind}_min": min(ratios), f"{kind}_max": max(ratios)}
    return found


def _processor() -> str:
    """Return the processor's name."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
