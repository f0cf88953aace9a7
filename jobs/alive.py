"""The sign of life of a stage: a small file that its first worker's process touches every few seconds while it runs.

A process that is killed is seen by Ray at once. One that is frozen (stopped by a signal, stuck in a driver or a network
file system) is seen by nobody: its connections stay open. So a thread here touches a file, and whoever waits for the
stage takes long silence for a hang. The thread runs as long as its process does anything at all: a stage that computes
for an hour without a number is not silent.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

FILE = "alive.json"
BEAT_S = 3.0  # between two signs: the shortest sensible `hang_after_s` is several of these


@dataclass(frozen=True, slots=True)
class Process:
    """Which process gives the sign, on which of Ray's nodes ("" outside Ray); `created` is Unix time, s."""

    pid: int
    created: float
    node: str


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """Give signs of life in `folder` inside the block."""
    path, over = folder / FILE, threading.Event()
    path.write_text(json.dumps(asdict(Process(os.getpid(), psutil.Process().create_time(), _node()))))

    def beat() -> None:
        while not over.wait(BEAT_S):
            os.utime(path)

    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


def read(folder: Path) -> tuple[Process, int] | None:
    """Return who gives signs of life in `folder`, and a number that changes with each; None where nobody does."""
    path = folder / FILE
    try:
        return Process(**json.loads(path.read_text())), path.stat().st_mtime_ns
    except (OSError, ValueError, TypeError):  # none yet, or being written
        return None


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
