"""From journals to MLflow: one thread follows the journal of every running stage and carries new numbers over.

The journal is the outbox: workers only append to it, so a slow, restarting or dead tracking server never holds up a
step. What was carried over is noted beside the journal afterwards; after a crash in between, the same points are sent
again, and MLflow keeps one of each (same key, value, step and time).

A line of the journal that the disk has damaged is left out. The display says so until the end, the run for good.
"""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import journal
from orchestration import announced
from orchestration.errors import StoreError, Unanswered
from orchestration.records import Point
from orchestration.storage import write_atomic
from orchestration.tracking import Store

LOOK_S = 0.4  # between two looks at the journals
SEND_S = 3.0  # between two batches of one run: SQLite takes 1,000 points as fast as 10
RETRY_S = 10.0  # after the tracking server did not answer
HEARTBEAT_S = 15.0
DAMAGE = "leoclr.journal_damage"  # tag of a run: which lines of its journal could not be read


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
    damaged: tuple[int, ...] = ()  # lines of the journal
    told: int = 0  # of them, on the run
    due: float = 0.0  # nothing is sent before, by the monotonic clock
    trouble: str = ""
    progress: Progress = field(default_factory=Progress)

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def mark(self) -> Path:
        return self.folder / "journal.sent"

    @property
    def damage(self) -> str:
        return journal.Read([], self.read, self.damaged).damage

    def sent(self) -> int:
        """Return up to which byte all was sent; 0 where the note of it is damaged: what is sent again adds nothing."""
        try:
            sent = int(self.mark.read_text())
            content = self.journal.read_bytes()
        except (FileNotFoundError, ValueError):
            return 0
        return sent if 0 < sent <= len(content) and content[sent - 1 : sent] == b"\n" else 0

    def take(self, offset: int) -> list[dict[str, Any]]:
        """Return the lines from `offset` on; from now on they count as read."""
        found = journal.numbers(self.journal, offset)
        self.read = found.end
        self.damaged = tuple(sorted({*self.damaged, *found.damaged}))
        return found.lines


class Recorder:
    """Follows stages between `follow` and `drain`; `progress` is what the display asks."""

    def __init__(self, store: Store, submission: str) -> None:
        """Carry over to `store`; `submission` is the run that a sign of life is given for, "" where there is none."""
        _set_imports_apart()
        self._store = store
        self.alive = {submission} - {""}  # runs that this process gives a sign of life for
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()  # around _followed and what is in it; never held while MLflow is asked
        self._sending = threading.Lock()  # one sender at a time: the thread, or a drain
        self._stop = threading.Event()
        self._trouble = ""
        self._damage: dict[str, str] = {}  # of journals, by run; also of those that are drained
        self._thread = threading.Thread(target=self._watch, name="recorder", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps numbers from reaching the tracking store, in words; "" while they do."""
        return self._trouble or self.damage

    @property
    def damage(self) -> str:
        """Which lines of a journal could not be read, in words; "" where all could."""
        return "; ".join(self._damage.values())

    def follow(self, run_id: str, folder: Path) -> None:
        """Carry the numbers of the stage in `folder` to `run_id` from now on. Raises: StoreError on a read error."""
        followed = _Followed(run_id, folder, read=0)
        with _from_disk(folder):
            _see(followed.progress, followed.take(0))  # from the start: the progress so far is in it
            followed.unsent = list(_points(followed.take(followed.sent())))
        with self._lock:
            self._followed[run_id] = followed
            self._note_damage(followed)

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

        Raises: StoreError where the store or the disk fails; the stage is still followed then.
        """
        with self._lock:
            followed = self._followed.get(run_id)
        if followed is None:  # drained before, and what came after it failed
            return
        with _from_disk(followed.folder):
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
            if (followed.unsent or len(followed.damaged) > followed.told) and time.monotonic() >= followed.due:
                self._send(followed)
        except Exception as error:  # noqa: BLE001  # a thread that ends tells nobody; a drain raises it in the driver's
            followed.due = time.monotonic() + RETRY_S
            followed.trouble = f"numbers wait on disk: {_said(error)}"
        return followed.trouble

    def _beat(self) -> str:
        try:
            self._store.heartbeat(list(self.alive))
        except Exception as error:  # noqa: BLE001  # as in `_carry`
            return f"no sign of life reaches the store: {_said(error)}"
        return ""

    def _look(self, followed: _Followed) -> None:
        with self._lock:
            lines = followed.take(followed.read)
            _see(followed.progress, lines)
            followed.unsent.extend(_points(lines))
            self._note_damage(followed)

    def _note_damage(self, followed: _Followed) -> None:
        if followed.damaged:
            self._damage = {**self._damage, followed.run_id: f"stages/{followed.folder.name}: {followed.damage}"}

    def _send(self, followed: _Followed) -> None:
        with self._sending:
            with self._lock:
                points, upto, damaged = list(followed.unsent), followed.read, len(followed.damaged)
            if points or damaged > followed.told:
                seen = followed.progress
                tags = dict(announced.progress_tag(seen.epoch, seen.epochs, seen.fraction, seen.metric))
                tags |= {DAMAGE: followed.damage} if damaged else {}
                self._store.log_points(followed.run_id, points, tags)
                write_atomic(followed.mark, str(upto))
            with self._lock:
                del followed.unsent[: len(points)]
                followed.told = damaged
                followed.due = time.monotonic() + SEND_S
                followed.trouble = ""


@functools.cache
def _set_imports_apart() -> None:
    """Keep the garbage collector from what this process has made so far: with Ray and MLflow, half a million objects.

    They live as long as it does. MLflow makes dozens of objects of each point, and to look through all others again and
    again took a third of its time.
    """
    gc.freeze()


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


@contextmanager
def _from_disk(folder: Path) -> Iterator[None]:
    """Raise Unanswered where the disk fails, as one that is full: who drives the stage tries it again."""
    try:
        yield
    except OSError as error:
        raise Unanswered(f"the journal cannot be read or noted: {error}", place=str(folder)) from error


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"


def _points(lines: list[dict[str, Any]]) -> Iterator[Point]:
    for line in lines:
        step = line["y"] if "y" in line else line["s"]
        for key, value in line["m"].items():
            yield Point(key, value, step, line["t"])
