"""Clocks, rows and limits of the GPU benchmark."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Run = Callable[[], object]

TRAFFIC_MB = {"leoclr": 592, "moco_v2": 469, "simclr": 691, "features": 57}
"""MB that a ResNet-50 at 224 pixels moves for an image in bf16, counted by hooks.

A forward pass in training mode is 123. Of these 44 are convolutions, each reading its input and writing its output
once; 67 are batch norm, which reads that for its statistics, reads it again and writes it, ReLU fused; 11 the other
operand of additions, 2 the pool. A frozen network has its batch norm folded: 57. A backward pass counts as 223."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `value` is a median over repetitions, 0 where it could not be measured."""

    name: str
    value: float
    unit: str
    low: float = 0.0
    high: float = 0.0
    goal: float = 0.0  # 0: none
    at_most: bool = False
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if not self.goal:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def __str__(self) -> str:
        goal = f"{'<=' if self.at_most else '>='} {self.goal:g}" if self.goal else ""
        holds = {None: "", True: "yes", False: "no"}[self.holds]
        spread = f"{self.low:.4g} to {self.high:.4g}" if self.high else ""
        return f"| {self.name} | {self.value:.4g} {self.unit} | {spread} | {goal} | {holds} | {self.note} |"


HEAD = "| what | value | least to greatest | goal | holds | |\n|---|---:|---:|---:|---|---|"


@dataclass(frozen=True, slots=True)
class Clock:
    """Times work on a device: by its own events where it has them."""

    device: torch.device
    steps: int  # of one repetition
    repetitions: int
    warm_up: int  # steps

    def seconds(self, act: Run) -> list[float]:
        """Return the seconds of one `act`, by repetitions; those of the first steps do not count."""
        for _ in range(self.warm_up):
            act()
        self.wait()
        return [self._repetition(act) for _ in range(self.repetitions)]

    def first(self, act: Run) -> float:
        """Return the seconds until the first `act` is done: what compiling takes, mostly."""
        started = time.perf_counter()
        act()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        """Wait for all that the device was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _repetition(self, act: Run) -> float:
        if self.device.type != "cuda":
            started = time.perf_counter()
            for _ in range(self.steps):
                act()
            return (time.perf_counter() - started) / self.steps
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(self.steps):
            act()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1_000 / self.steps


def rate(name: str, images: int, seconds: list[float], *, goal: float = 0.0, note: str = "") -> Row:
    """Return the row of how many images a second a step of `images` makes."""
    rates = [images / each for each in seconds]
    return Row(name, statistics.median(rates), "img/s", min(rates), max(rates), goal, note=note)


def copy_bandwidth(clock: Clock, megabytes: int) -> float:
    """Return the bytes a second that the device's memory moves at best: those of a copy, read and written."""
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return 2 * len(source) / min(clock.seconds(lambda: target.copy_(source)))


def peak_gb(device: torch.device) -> float:
    """Return the most memory, in GB, that tensors held since `forget_peak`; on CUDA alone."""
    return torch.cuda.max_memory_allocated(device) / 1e9


def forget_peak(device: torch.device) -> None:
    """Give unused memory back and start counting anew."""
    gc.collect()  # a compiled network and what calls it hold each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
