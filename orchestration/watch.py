"""A driver's ear and voice for other machines: is it to end, and what do its running stages log?

Nothing here can fail a submission: where the store does not answer, it is asked again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration import records
from orchestration.errors import StoreError
from orchestration.recorder import Recorder
from orchestration.tails import LIVE, LOG
from orchestration.tracking import Store

LOOK_S = 2.0  # between two questions whether the submission is to end
LOG_S = 5.0  # between two looks at the logs; one that grew is brought to its run
MOST_BYTES = 8 << 20  # of a log; a longer one stays where it is


class Watch:
    """What the watching threads learn of one submission, or sweep."""

    def __init__(self, store: Store, run_id: str, recorder: Recorder) -> None:
        self._store, self._run_id, self._recorder = store, run_id, recorder
        self._sizes: dict[str, int] = {}  # of the logs that were brought, in bytes, by run
        self._known: dict[str, Path] = {}
        self.cancelled = threading.Event()
        self._over = threading.Event()
        self._attempt = store.tags(run_id).get(records.ATTEMPT_MS)

    def listen(self) -> None:
        """Ask every `LOOK_S` whether the submission is to end, until it is or this is over."""
        while not self.cancelled.is_set() and not self._over.wait(LOOK_S):
            with contextlib.suppress(StoreError):
                if self._store.tags(self._run_id).get(records.CANCEL) == self._attempt:
                    self.cancelled.set()

    def bring(self) -> None:
        """Bring logs that grew to their runs, until this is over; then once more, for what ended them."""
        while not self._over.wait(LOG_S):
            self.bring_once()
        self.bring_once()

    def bring_once(self) -> None:
        """Bring the logs of the stages that run, and for the last time those of stages that ended since."""
        running = {run_id: folder / LOG for run_id, folder in self._recorder.folders.items()}
        for run_id, log in {**self._known, **running}.items():
            with contextlib.suppress(StoreError, FileNotFoundError):
                size = log.stat().st_size
                if self._sizes.get(run_id) != size <= MOST_BYTES:
                    self._store.log_files(run_id, [log], LIVE)
                    self._sizes[run_id] = size
        self._known = running

    def close(self) -> None:
        """Let the threads end."""
        self._over.set()


@contextmanager
def watching(store: Store, run_id: str, recorder: Recorder) -> Iterator[threading.Event]:
    """Watch a submission inside the block; yield what is set when somebody cancels it.

    Logs are brought only to a store that other machines see.
    Raises: StoreError where the store does not answer at the start.
    """
    watch = Watch(store, run_id, recorder)
    tasks = [watch.listen, watch.bring] if store.is_served else [watch.listen]
    threads = [threading.Thread(target=task, name=task.__name__, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield watch.cancelled
    finally:
        watch.close()
        for thread in threads:
            thread.join(timeout=10)
