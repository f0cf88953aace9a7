"""What one GPU does, beside a plain loop and lightly: torch, torchvision and this repository are all that it needs.

    python -m benchmarks.gpu                        on a CUDA device, about 7 minutes; Python 3.11 or newer, torch 2.11
    python -m benchmarks.gpu --only features,resident
    python -m benchmarks.gpu --device cpu --quick   the same code on nearly nothing, to see that it runs

It prints its table line by line as parts finish, and after each part writes build/gpu.json: the device, its driver, the
versions, and each line as {name, value, unit, low, high, goal, at_most, note, holds}. A part that would start after
`--seconds` is left out, and said to be; one that fails is a line with its error, and the others go on. Compiled ones
take what Triton takes, a C compiler and Python's headers.

Rates are medians over repetitions of steps between two events of the device, after steps that do not count. Networks
train in bf16, eager and compiled. The bandwidth ceiling is what the device copies in a second over what a step moves
for an image (benchmarks/gpu_timing.py). Views are noise where it says nothing else; "JPEGs" are files of 500 x 375
pixels, made here, read and cropped by processes and colored on the device; "images on the device" are uint8 that the
device crops and colors itself. `plain` is facebookresearch/moco's loop with LeOCLR's views, lightly its example's; both
are fp32, as they come. Parts: eager, plain, compiled, augmentation, files, resident, features, moco_v2, simclr, lightly
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torchvision

from benchmarks import gpu_rates
from benchmarks.gpu_peers import Plain
from benchmarks.gpu_rates import Setup
from benchmarks.gpu_timing import HEAD, Clock, Row, copy_bandwidth
from benchmarks.step_peers import Lightly, Size

WRITTEN = Path("build", "gpu.json")
SECONDS = 420  # after which no part begins; the longest takes a minute and a half
LEOCLR_GOAL, PLAIN_GOAL, MOCO_GOAL = 2_000, 3, 1.27


@dataclass(slots=True)
class Report:
    """The rows so far, printed and written as they come."""

    machine: dict[str, str]
    path: Path
    goals: bool = True  # whether rows are held to them
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Print a row and keep it."""
        shown = row if self.goals else replace(row, goal=0.0)
        print(shown, flush=True)
        self.rows.append(shown)

    def write(self) -> None:
        """Write all that is there."""
        rows = [asdict(row) | {"holds": row.holds} for row in self.rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"machine": self.machine, "rows": rows, "left_out": self.left_out}, indent=1))

    def value(self, *words: str) -> float:
        """Return the value of the first row whose name holds all `words`; 0 where there is none."""
        return next((row.value for row in self.rows if all(word in row.name for word in words)), 0.0)


def main() -> None:
    """Measure, print, write."""
    asked = _arguments()
    torch.manual_seed(0)
    device = torch.device(asked.device)
    report = Report(machine(device), asked.out, goals=not asked.quick)
    print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        setup = _setup(device, quick=asked.quick)
        report.add(Row("memory bandwidth, by a copy", setup.bandwidth / 1e9, "GB/s"))
        _measure(setup, report, Path(folder), asked)
    report.write()
    if report.left_out:
        print(f"left out after {asked.seconds} s: {', '.join(report.left_out)}")


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers were taken on."""
    about = {"device": platform.processor() or platform.machine(), "python": platform.python_version()}
    if device.type == "cuda":
        about |= {"device": torch.cuda.get_device_name(device), "driver": _driver(), "cuda": str(torch.version.cuda)}
    return about | {"torch": torch.__version__, "torchvision": torchvision.__version__}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny network on tiny images, two steps of each part")
    parser.add_argument("--only", type=lambda text: text.split(","), help="some parts, separated by commas")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no part begins after so long")
    parser.add_argument("--out", type=Path, default=WRITTEN, help="where the figures are written")
    asked = parser.parse_args()
    unknown = set(asked.only or ()) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --device cpu --quick shows that this runs")
    return asked


def _setup(device: torch.device, *, quick: bool) -> Setup:
    if quick:
        clock = Clock(device, steps=1, repetitions=2, warm_up=1)
        tiny = Size("resnet18", "stride2", side=16, batch=4, width=4)
        return Setup(clock, tiny, tiny, "off", copy_bandwidth(clock, 8), files=4, loaders=1, loaded_groups=1)
    torch.backends.cudnn.benchmark = True  # as training has it here and in main_moco.py: for whichever parts run
    clock = Clock(device, steps=10, repetitions=5, warm_up=5)
    large = Size("resnet50", "imagenet", side=224, batch=256)
    small = Size("resnet18", "cifar", side=32, batch=512)
    bandwidth = copy_bandwidth(clock, 2_048)
    return Setup(clock, large, small, "on", bandwidth, files=256, loaders=8, loaded_groups=8)


def _measure(setup: Setup, report: Report, folder: Path, asked: argparse.Namespace) -> None:
    started = time.monotonic()
    for name, part in PARTS.items():
        if asked.only and name not in asked.only:
            continue
        if time.monotonic() - started > asked.seconds:
            report.left_out.append(name)
            continue
        try:
            for row in part(setup, report, folder):
                report.add(row)
        except Exception as error:  # noqa: BLE001  # too little memory, a compiler that fails: other parts are there
            report.add(Row(name, 0.0, "", note=f"failed: {' '.join(str(error).split())[:200]}"))
        report.write()


def _eager(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    goal = LEOCLR_GOAL if setup.compile == "off" else 0.0
    return gpu_rates.synthetic(setup, "leoclr", compile_as="off", goal=goal)


def _compiled(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    if setup.compile != "off":
        yield from gpu_rates.synthetic(setup, "leoclr", compile_as=setup.compile, goal=LEOCLR_GOAL)
    if (plain := report.value("plain loop", "NCHW")) and (best := _best(report)):
        yield Row("LeOCLR over the plain loop", best / plain, "times", goal=PLAIN_GOAL)


def _augmentation(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.augmentation(setup, _step_s(setup, report))


def _files(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    step_s, words = _step_s(setup, report), ("augmentation", gpu_rates.WAYS[setup.ways[-1]])
    if not report.value(*words):
        for row in gpu_rates.augmentation(setup, step_s):
            report.add(row)
    yield from gpu_rates.files(setup, folder, step_s / (1.0 - report.value(*words) / 100.0))


def _resident(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.resident(setup)


def _features(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    for compiled in setup.ways:
        yield from gpu_rates.features(setup, compiled=compiled)


def _moco(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.synthetic(setup, "moco_v2", compile_as=setup.compile)
    if leoclr := _best(report):
        ratio = report.value("MoCo-v2", "bf16") / leoclr
        yield Row("LeOCLR step over MoCo-v2 step", ratio, "times", goal=MOCO_GOAL, at_most=True)


def _simclr(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.synthetic(setup, "simclr", compile_as=setup.compile)


def _plain(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.peer(setup, Plain, "plain loop")


def _lightly(setup: Setup, report: Report, folder: Path) -> Iterator[Row]:
    yield from gpu_rates.peer(setup, Lightly, "lightly")
    if (lightly := report.value("lightly", "NCHW")) and (best := _best(report)):
        yield Row("LeOCLR over lightly", best / lightly, "times")


def _best(report: Report) -> float:
    """Return the rate of LeOCLR that counts: compiled where it was."""
    return report.value("LeOCLR", "bf16, compiled") or report.value("LeOCLR", "bf16, eager")


def _step_s(setup: Setup, report: Report) -> float:
    """Return the seconds of a step on views that are there; measured now, where no part has done it yet."""
    if not _best(report):
        for row in gpu_rates.synthetic(setup, "leoclr", compile_as=setup.compile):
            report.add(row)
    return setup.large.batch / _best(report)


def _driver() -> str:
    """Return the version of NVIDIA's driver."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


Part = Callable[[Setup, Report, Path], Iterator[Row]]
PARTS: dict[str, Part] = {
    "eager": _eager,
    "plain": _plain,
    "compiled": _compiled,
    "augmentation": _augmentation,
    "files": _files,
    "resident": _resident,
    "features": _features,
    "moco_v2": _moco,
    "simclr": _simclr,
    "lightly": _lightly,
}
"""In order: what later parts compare with comes first, what is told least last."""


if __name__ == "__main__":
    main()
