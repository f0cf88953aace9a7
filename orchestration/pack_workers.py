"""Make images small in several processes; what comes out is in the order of what went in, whatever their number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from leoclr.data.contract import DataError
from leoclr.data.shrinking import Shrinking, Small, shrink_files

_AHEAD = 3  # parts that wait for each process, or for being taken: no more images are in memory


def shrink_all(
    parts: Iterator[tuple[Path, ...]], how: Shrinking, *, workers: int
) -> Generator[Small | str, None, None]:
    """Yield each image of each part as it is stored, or why it cannot be decoded.

    One worker is this process itself. Raises: DataError when the system cannot read a file, or ends a process.
    """
    if workers == 1:
        for part in parts:
            yield from shrink_files(part, how)
        return
    # Spawned: a forked process would inherit locks that a thread of ours holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
        waiting: deque[Future[list[Small | str]]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(shrink_files, part, how))
                if len(waiting) == workers * _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            hint = "is memory short? fewer --workers need less; the same command continues"
            raise DataError("a process that makes images small was killed", hint=hint) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """End this process when its parent ends, however that ends; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
