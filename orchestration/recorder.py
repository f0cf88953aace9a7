"""From journals to MLflow: one thread follows the journal of every running stage and carries new numbers over.

The journal is the outbox: workers only append to it, so a slow, restarting or dead tracking server never holds up a
step. What was carried over is noted beside the journal afterwards; after a crash in between, the same points are sent
again, and MLflow keeps one of each (same key, value, step and time).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import journal
from orchestration import announced
from orchestration.errors import StoreError
from orchestration.records import Point
from orchestration.storage import write_atomic
from orchestration.tracking import Store

LOOK_S = 0.4  # between two looks at the journals
SEND_S = 3.0  # between two batches of one run: SQLite takes 1,000 points as fast as 10
RETRY_S = 10.0  # after the tracking server did not answer
HEARTBEAT_S = 15.0


@dataclass(slots=True)
class Progress:
    """How far a stage is, by its journal."""

    epoch: int = 0
    epochs: int = 0
    fraction: float = 0.0  # of the whole stage
    loss: float | None = None
    metric: tuple[str, float] | None = None
    images_per_s: float | None = None


@dataclass(slots=True)
class _Followed:
    run_id: str
    folder: Path
    read: int  # bytes of the journal that were read
    unsent: list[Point] = field(default_factory=list)
    due: float = 0.0  # nothing is sent before, by the monotonic clock
    trouble: str = ""
    progress: Progress = field(default_factory=Progress)

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def mark(self) -> Path:
        return self.folder / "journal.sent"


class Recorder:
    """Follows stages between `follow` and `drain`; `progress` is what the display asks."""

    def __init__(self, store: Store, submission: str) -> None:
        """Carry over to `store`; `submission` is the run that a sign of life is given for, "" where there is none."""
        self._store = store
        self.alive = {submission} - {""}  # runs that this process gives a sign of life for
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()  # around _followed and what is in it; never held while MLflow is asked
        self._sending = threading.Lock()  # one sender at a time: the thread, or a drain
        self._stop = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._watch, name="recorder", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps numbers from reaching the tracking store, in words; "" while they do."""
        return self._trouble

    def follow(self, run_id: str, folder: Path) -> None:
        """Carry the numbers of the stage in `folder` to `run_id` from now on."""
        followed = _Followed(run_id, folder, read=0)
        sent = int(followed.mark.read_text()) if followed.mark.exists() else 0
        lines, followed.read = journal.read(followed.journal)  # from the start: the progress so far is in it
        _see(followed.progress, lines)
        lines, followed.read = journal.read(followed.journal, min(sent, followed.read))
        followed.unsent = list(_points(lines))
        with self._lock:
            self._followed[run_id] = followed

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the stages that are followed, by run."""
        with self._lock:
            return {run_id: followed.folder for run_id, followed in self._followed.items()}

    def progress(self, run_id: str | None) -> Progress:
        """Return how far the stage of `run_id` is; nothing where it is not followed."""
        with self._lock:
            followed = self._followed.get(run_id or "")
            return followed.progress if followed else Progress()

    def drain(self, run_id: str) -> None:
        """Carry over all that the stage has written, and stop following it; once that is done, do nothing.

        Raises: what the store raises; the stage is still followed then.
        """
        with self._lock:
            followed = self._followed.get(run_id)
        if followed is None:  # drained before, and what came after it failed
            return
        self._look(followed)
        self._send(followed)
        with self._lock:
            del self._followed[run_id]

    def close(self) -> None:
        """Stop the thread; what was not drained is sent by the next submission of the same stage."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        beat_at = 0.0
        while not self._stop.wait(LOOK_S):
            with self._lock:
                followed = list(self._followed.values())
            trouble = [self._carry(each) for each in followed]
            if time.monotonic() >= beat_at:
                trouble.append(self._beat())
                beat_at = time.monotonic() + HEARTBEAT_S
            self._trouble = next(filter(None, trouble), "")

    def _carry(self, followed: _Followed) -> str:
        """Look at one stage and send what is due; return what went wrong, which harms no other stage."""
        try:
            self._look(followed)
            if followed.unsent and time.monotonic() >= followed.due:
                self._send(followed)
        except (StoreError, OSError, ValueError) as error:  # ValueError: a journal that the disk damaged
            followed.due = time.monotonic() + RETRY_S
            followed.trouble = f"numbers wait on disk: {error}"
        return followed.trouble

    def _beat(self) -> str:
        try:
            self._store.heartbeat(list(self.alive))
        except StoreError as error:
            return str(error)
        return ""

    def _look(self, followed: _Followed) -> None:
        with self._lock:
            lines, followed.read = journal.read(followed.journal, followed.read)
            _see(followed.progress, lines)
            followed.unsent.extend(_points(lines))

    def _send(self, followed: _Followed) -> None:
        with self._sending:
            with self._lock:
                points, upto = list(followed.unsent), followed.read
            if points:
                seen = followed.progress
                how_far = announced.progress_tag(seen.epoch, seen.epochs, seen.fraction, seen.metric)
                self._store.log_points(followed.run_id, points, how_far)
                write_atomic(followed.mark, str(upto))
            with self._lock:
                del followed.unsent[: len(points)]
                followed.due = time.monotonic() + SEND_S
                followed.trouble = ""


def _see(progress: Progress, lines: list[dict[str, Any]]) -> None:
    """Take the latest of each kind of number from new lines."""
    for line in lines:
        numbers: Mapping[str, float] = line["m"]
        if "p" in line:
            progress.epoch, progress.epochs, progress.fraction = line["p"]
        if "e" in line and numbers:
            progress.metric = next(iter(numbers.items()))
        progress.loss = numbers.get("loss", progress.loss)
        progress.images_per_s = numbers.get("images_per_s", progress.images_per_s)


def _points(lines: list[dict[str, Any]]) -> Iterator[Point]:
    for line in lines:
        step = line["y"] if "y" in line else line["s"]
        for key, value in line["m"].items():
            yield Point(key, value, step, line["t"])
