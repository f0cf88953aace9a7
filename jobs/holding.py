"""A stage's folder while a worker writes it: one process holds it, logs into it, and has it kept elsewhere if asked."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from jobs import keeping
from jobs.alive import beating
from jobs.keeping import Held
from leoclr import distributed

log = logging.getLogger("leoclr")


@contextmanager
def held(folder: Path) -> Iterator[Held]:
    """Hold a stage's folder as this process's keeper has it; who is not the first worker writes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if distributed.rank() != 0:
        yield keeping.NOTHING
        return
    with alone(folder), beating(folder, far=keeping.is_far()), keeping.keeper().stage(folder) as own:
        yield own


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a stage's folder: a worker whose driver was killed may still be writing for a moment."""
    with FileLock(folder / "worker.lock", timeout=120):
        yield


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Send the first worker's log, and what ends any worker, to `log.txt`: an error with its trace."""
    rank = distributed.rank()
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s worker {rank}: %(message)s"))
    handler.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as told:  # how Ray's processes take a signal and a cancel
        log.error("stopped from outside: %s", " ".join("".join(traceback.format_exception_only(told)).split()))
        raise
    except BaseException:
        log.error("stopped by\n%s", "".join(traceback.format_exception(*sys.exc_info())))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
