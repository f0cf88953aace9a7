"""The sign of life of a stage: a small file that its first worker's process touches every few seconds while it runs.

A process that is killed is seen by Ray at once. One that is frozen (stopped by a signal, stuck in a driver or a network
file system) is seen by nobody: its connections stay open. So a thread here touches a file, and whoever waits for the
stage takes long silence for a hang. The thread runs as long as its process does anything at all: a stage that computes
for an hour without a number is not silent. The trials of a grid give signs of their own, in their own folders.

Where nodes do not see one folder, Ray's key-value store carries the same: its key is the file's path.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

FILE = "alive.json"
SPACE = b"leoclr-ops"  # of Ray's key-value store
log = logging.getLogger("leoclr")
BEAT_S = 3.0  # between two signs: the shortest sensible `hang_after_s` is several of these


@dataclass(frozen=True, slots=True)
class Process:
    """Which process gives the sign, on which of Ray's nodes ("" outside Ray); `created` is Unix time, s."""

    pid: int
    created: float
    node: str


@contextmanager
def beating(folder: Path, *, far: bool = False) -> Iterator[None]:
    """Give signs of life in `folder` inside the block; `far`: for drivers too that do not see it."""
    path, over = folder / FILE, threading.Event()
    own = asdict(Process(os.getpid(), psutil.Process().create_time(), _node()))
    path.write_text(json.dumps(own))
    is_far = far and _is_in_ray()

    def beat() -> None:
        for number in itertools.count():
            with suppress(OSError):  # of a network file system, for a moment: the next sign will do
                os.utime(path)
            if is_far:
                _tell(path, json.dumps({**own, "beat": number}))
            if over.wait(BEAT_S):
                return

    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)
        if is_far:
            _tell(path, None)


def read(folder: Path, *, far: bool = False) -> dict[Path, tuple[Process, int]]:
    """Return who gives signs of life in `folder` and in those of its trials, with a number that changes with each.

    `far`: the folder lies on another node's disk.
    """
    return dict(_in_ray(folder) if far and _is_in_ray() else _here(folder))


def _here(folder: Path) -> Iterator[tuple[Path, tuple[Process, int]]]:
    for path in (folder / FILE, *folder.glob(f"trials/*/{FILE}")):
        with suppress(OSError, ValueError, TypeError):  # none yet, or being written
            yield path.parent, (Process(**json.loads(path.read_text())), path.stat().st_mtime_ns)


def _in_ray(folder: Path) -> Iterator[tuple[Path, tuple[Process, int]]]:
    from ray.experimental import internal_kv

    for key in internal_kv._internal_kv_list(str(folder).encode(), namespace=SPACE):
        path = Path(os.fsdecode(key))
        known = path.parent == folder or path.parent.parent.parent == folder
        if known and (told := internal_kv._internal_kv_get(key, namespace=SPACE)):
            own = json.loads(told)
            beat = int(own.pop("beat"))
            yield path.parent, (Process(**own), beat)


def _tell(path: Path, sign: str | None) -> None:
    """Say a sign in Ray's store, or take it away; where Ray does not hear, the next one will do."""
    from ray.experimental import internal_kv

    key = os.fsencode(path)
    try:
        if sign is None:
            internal_kv._internal_kv_del(key, namespace=SPACE)
        else:
            internal_kv._internal_kv_put(key, sign.encode(), overwrite=True, namespace=SPACE)
    except Exception as error:  # noqa: BLE001  # Ray's binding raises several kinds; a sign must not end a training
        log.debug("no sign of life was given: %s", error)


def _is_in_ray() -> bool:
    import ray

    return bool(ray.is_initialized())


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if _is_in_ray() else ""
