"""The journal of a stage: every number it records, as JSON lines in a file that only grows.

    {"s": 120, "t": 1790000000123, "m": {"loss": 5.1}, "p": [2, 8, 0.31]}   step 120; epoch 2 of 8, 31 % of all is done
    {"e": 1, "s": 120, "t": ..., "m": {"knn_top1": 71.4}}                   the end of epoch 1
    {"y": 7, "t": ..., "m": {"system/...": 12.5}}                           the 7th sample of the machine

`s` counts steps over all epochs, `t` is Unix time in milliseconds, `m` holds the numbers by name.

The worker never waits for a tracker: it appends here, and the driver carries new lines to MLflow. The file survives
both. A step is written once: a stage that continues from a checkpoint repeats some steps, and finds them already
written. So the history is that of an undisturbed run, with the time at which each number was first seen.

A whole line that the disk has damaged says nothing any more: `numbers` leaves it out, so that training goes on, and
names its place, so that whoever reads can tell of it. A digit that became another one is not noticed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

FLUSH_S = 0.5  # numbers leave the device at most this often: reading one waits for the device
SAMPLE_S = 5.0  # between two samples of the machine
MAX_POINTS = 2000  # step-wise points of a stage; longer ones record every k-th step
_KINDS = ({"s", "t", "m", "p"}, {"e", "s", "t", "m"}, {"y", "t", "m", "p"})  # keys of a line: step, epoch, sample
MOST_NAMED = 8  # damaged lines that a text names

log = logging.getLogger("leoclr")


class Diverged(RuntimeError):
    """The loss is not a finite number any more."""


class Damaged(ValueError):
    """A whole line of a file of JSON lines cannot be read; the text names file and line."""


@dataclass(frozen=True, slots=True)
class Read:
    """What `numbers` found: lines, the offset behind the last one, and the numbers of damaged lines (1: the first)."""

    lines: list[dict[str, Any]]
    end: int
    damaged: tuple[int, ...]

    @property
    def damage(self) -> str:
        """Return in words what cannot be read; "" where there is no such line.

        >>> Read([], 90, (3, 17)).damage
        'lines 3, 17 of the journal are damaged, their numbers are left out'
        """
        first, more = ", ".join(map(str, self.damaged[:MOST_NAMED])), len(self.damaged) - MOST_NAMED
        if len(self.damaged) < 2:
            return f"line {first} of the journal is damaged, its numbers are left out" if first else ""
        rest = f" and {more} more" if more > 0 else ""
        return f"lines {first}{rest} of the journal are damaged, their numbers are left out"


class Journal:
    """Appends to one journal; used by the first worker of a stage."""

    def __init__(self, path: Path, *, steps: int) -> None:
        self._stride = max(1, math.ceil(steps / MAX_POINTS))
        self._last_step, self._last_epoch, self._samples = _mend(path)
        self._file = path.open("a", encoding="utf-8")
        self._pending: list[tuple[int, int, Mapping[str, Tensor | float | int]]] = []
        self._loss: Tensor | float | int = 0.0  # of the newest step, recorded or not
        self._progress: tuple[int, int, float] = (0, 0, 0.0)
        self._flushed = self._sampled = 0.0
        self._images, self._images_since = 0.0, time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only starts the clock

    def step(self, total: int, numbers: Mapping[str, Tensor | float | int], progress: tuple[int, int, float]) -> None:
        """Note the numbers of step `total` (1 is the first); writes at most every `FLUSH_S` seconds.

        Raises: Diverged when a loss is not finite, at the next write.
        """
        self._images += float(numbers["images"])
        self._loss = numbers.get("loss", 0.0)
        self._progress = progress
        if total % self._stride == 0 or total == 1:
            kept = {key: value for key, value in numbers.items() if key != "images"}
            self._pending.append((total, _now_ms(), kept))
        if time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def epoch(self, epoch: int, total: int, numbers: Mapping[str, float | int]) -> None:
        """Write the numbers of the end of `epoch`."""
        self.flush()
        if numbers and epoch > self._last_epoch:
            self._write({"e": epoch, "s": total, "t": _now_ms(), "m": {k: float(v) for k, v in numbers.items()}})
            self._last_epoch = epoch
            self._file.flush()

    def flush(self, *, durable: bool = False) -> None:
        """Write what is pending; `durable` also waits for the disk, as before a checkpoint is sealed."""
        *rows, newest = _floats([*(numbers for _, _, numbers in self._pending), {"loss": self._loss}])
        for (total, when, _), numbers in zip(self._pending, rows, strict=True):
            if total > self._last_step:
                self._write({"s": total, "t": when, "m": numbers, "p": self._progress})
                self._last_step = total
        losses = [numbers["loss"] for numbers in (*rows, newest) if "loss" in numbers]
        self._loss = 0.0
        self._pending.clear()
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_S or durable:
            self._sample(now)
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        self._flushed = now
        if bad := [loss for loss in losses if not math.isfinite(loss)]:
            raise Diverged(
                f"the loss is {bad[0]} in epoch {self._progress[0]}: lower the learning rate or the momentum"
            )

    def close(self) -> None:
        """Write what is pending and close."""
        try:
            self.flush(durable=True)
        finally:
            self._file.close()

    def _sample(self, now: float) -> None:
        """Write the machine's load, under the names of MLflow's own system metrics, and the speed since the last."""
        memory = psutil.virtual_memory()
        numbers = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/process_cpu_percentage": self._process.cpu_percent(),
            "system/process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        if torch.cuda.is_available():
            numbers["system/gpu_0_memory_usage_megabytes"] = torch.cuda.max_memory_allocated() / 1e6
        if self._images:
            numbers["images_per_s"] = self._images / max(now - self._images_since, 1e-9)
        self._samples += 1
        self._write({"y": self._samples, "t": _now_ms(), "m": numbers, "p": self._progress})
        self._images, self._images_since, self._sampled = 0.0, now, now

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def append_sample(path: Path, numbers: Mapping[str, float], progress: tuple[int, int, float]) -> None:
    """Append one sample to a journal that nobody else is writing, such as that of a stage before it trains."""
    *_, samples = _mend(path)
    line = {"y": samples + 1, "t": _now_ms(), "m": numbers, "p": progress}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines from byte `offset` on, and the offset behind them; a half-written one is left.

    Raises: Damaged where one of them is no JSON.
    """
    whole = _whole(path, offset)
    found = []
    for number, line in enumerate(_split(whole), 1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{path}: line {_lines_before(path, offset) + number} is damaged: {error}") from error
    return found, offset + len(whole)


def numbers(path: Path, offset: int = 0) -> Read:
    """Return the lines of a stage's journal from byte `offset` on, less those that are damaged."""
    whole, lines, damaged = _whole(path, offset), [], list[int]()
    for number, line in enumerate(_split(whole), 1):
        if _is_fine(found := _parsed(line)):
            lines.append(found)
        else:
            damaged.append(number)
    before = _lines_before(path, offset) if damaged else 0
    return Read(lines, offset + len(whole), tuple(before + number for number in damaged))


def _whole(path: Path, offset: int) -> bytes:
    """Return the bytes from `offset` to the end of the last whole line."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _split(whole: bytes) -> list[bytes]:
    return whole.split(b"\n")[:-1]


def _lines_before(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        return file.read(offset).count(b"\n")


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_fine(line: object) -> bool:
    """Return whether a line is as one of the three kinds is written: a changed byte of a name leaves valid JSON."""
    if not isinstance(line, dict) or line.keys() not in _KINDS or not isinstance(line["m"], dict):
        return False
    counts = [line[key] for key in ("s", "t", "e", "y") if key in line]
    progress = line.get("p", [0, 0, 0.0])
    if not isinstance(progress, list) or len(progress) != 3:
        return False
    values = [*line["m"].values(), progress[2]]
    return all(isinstance(each, int) for each in (*counts, *progress[:2])) and all(
        isinstance(each, int | float) for each in values
    )


def _mend(path: Path) -> tuple[int, int, int]:
    """Cut a line that a kill left half-written; return the last step, epoch and sample that are written."""
    found = numbers(path)
    if found.damaged:
        log.warning("%s", found.damage)
    if path.exists() and path.stat().st_size > found.end:
        os.truncate(path, found.end)
    last = {key: max((line[key] for line in found.lines if key in line), default=-1) for key in ("e", "y")}
    steps = max((line["s"] for line in found.lines if "s" in line and "e" not in line), default=0)
    return steps, last["e"], max(last["y"], 0)


def _floats(batch: Iterable[Mapping[str, Tensor | float | int]]) -> list[dict[str, float]]:
    """Bring all tensors to the host in one transfer."""
    rows = list(batch)
    tensors = [value for row in rows for value in row.values() if isinstance(value, Tensor)]
    values = iter(torch.stack([t.detach().double() for t in tensors]).tolist() if tensors else [])
    return [{k: next(values) if isinstance(v, Tensor) else float(v) for k, v in row.items()} for row in rows]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
