"""Ctrl-C and SIGTERM end a submission in the same way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

STOPPED, CANCELLED = "stopped by the user", "cancelled by the user"  # why a run ended
WISHED = (STOPPED, CANCELLED)


class Cancelled(Exception):  # it is a wish, and no error
    """Somebody wants the submission to end."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C is, a KeyboardInterrupt, inside the block."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
