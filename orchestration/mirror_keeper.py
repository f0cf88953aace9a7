"""A node's half of the mirror: a `Keeper` that sends what a stage leaves while it trains, and brings what others left.

One thread a stage sends: the newest sealed checkpoint, one at a time, and journal and log when they have grown. No step
waits for it. A bucket that does not answer is asked again, later and later, and training goes on; only the end of a
stage waits, since its result would be lost with the node.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.contract import Retention
from jobs.health import DIVERGED
from jobs.keeping import Superseded
from leoclr import checkpoint
from orchestration import mirror
from orchestration.cluster.transfer import Damaged
from orchestration.errors import StoreError
from orchestration.mirror import ATTEMPT, JOURNAL, LOG, Mirror, Opened
from orchestration.storage import MANIFEST, NODE, locked, write_atomic

SEND_S = 3.0  # between two looks at journal and log
BYTES_PER_S = 100_000  # of a file that is sent whole each time: a long one is sent less often
FIRST_S, LONGEST_S = 1.0, 60.0  # before a bucket that did not answer is asked again, doubled each time
PATIENCE_S = 300.0  # with which a stage begins: without the bucket nobody knows what others left
STOPPED_S, FAILED_S = 3.0, 60.0  # that a stopped, or a failed stage waits at its end for its log
GROWING = (JOURNAL, LOG)

log = logging.getLogger("leoclr")


class Node:
    """The keeper of a node; `jobs.keeping.Keeper`."""

    def __init__(
        self, far: Mirror, *, fingerprint: str, retention: Retention, data: Callable[[str], Path] = Path
    ) -> None:
        """`data` finds the folder of a data set."""
        self._far, self._fingerprint, self._retention, self._data = far, fingerprint, retention, data

    @contextmanager
    def stage(self, folder: Path) -> Iterator[Sender]:
        """See `jobs.keeping.Keeper`."""
        folder.mkdir(parents=True, exist_ok=True)
        attempt = uuid.uuid4().hex
        _patiently(lambda: self._prepare(folder, attempt), PATIENCE_S)
        sender = Sender(self._far, folder, attempt, self._retention)
        try:
            yield sender
        except BaseException as error:
            sender.close(FAILED_S if isinstance(error, Exception) else STOPPED_S)
            raise
        sender.finish()

    def bring(self, path: Path, *, digest: str = "") -> None:
        """See `jobs.keeping.Keeper`; what lies outside of the home is the user's."""
        if not path.is_relative_to(self._far.home):
            return
        with locked(path.parent / f".{path.name}.lock", wait_s=PATIENCE_S):  # the workers of a node ask at once
            if path.exists() and not (digest and checkpoint.sha256_of(path / MANIFEST) != digest):
                return
            _patiently(lambda: self._bring(path), PATIENCE_S)

    def data(self, root: str) -> Path:
        """See `jobs.keeping.Keeper`."""
        return self._data(root)

    def _bring(self, path: Path) -> None:
        if not self._far.fetch(path, fingerprint=self._fingerprint):
            self._far.bring(path)

    def _prepare(self, folder: Path, attempt: str) -> None:
        far = self._far
        far.objects.put(far.key(folder / ATTEMPT), attempt.encode())
        self._agree(folder)
        far.fetch(folder / "result", fingerprint=self._fingerprint)
        self._newest(folder)

    def _agree(self, folder: Path) -> None:
        """Bring journal and log. Where they do not go on to what this node wrote, its checkpoints and result go.

        Then another node went on since: its numbers are those that were recorded, and not ours.
        """
        for name in GROWING:
            found = self._far.objects.get(self._far.key(folder / name))
            path = folder / name
            own = path.read_bytes() if path.exists() else b""
            if found and not own.startswith(found[0]):
                if name == JOURNAL:  # first: once the journal is the other's, nothing tells these from its own
                    for part in ("checkpoints", "result"):
                        shutil.rmtree(folder / part, ignore_errors=True)
                write_atomic(path, found[0])

    def _newest(self, folder: Path) -> None:
        """Bring the newest checkpoint that is whole there, unless this node has one as new."""
        own = checkpoint.latest(folder / "checkpoints", fingerprint=self._fingerprint)
        for there in self._far.checkpoints(folder):
            if own is not None and int(own[0].name) >= int(there.name):
                return
            try:
                if self._far.fetch(there, fingerprint=self._fingerprint):
                    return
            except Damaged as error:  # the one before it will do, and this one would count as one that is kept
                self._far.drop(there)
                log.warning("checkpoint %s is passed over: %s", there.name, error)


class Sender:
    """Sends what one stage writes on this node; `jobs.keeping.Held`."""

    def __init__(self, far: Mirror, folder: Path, attempt: str, retention: Retention) -> None:
        self._far, self._folder, self._attempt, self._retention = far, folder, attempt, retention
        self._pending: Opened | None = None
        self._sent: dict[str, int] = {}  # bytes of each growing file that are there
        self._due = dict.fromkeys(GROWING, 0.0)
        self._change = threading.Condition()
        self._closing = self._busy = self._superseded = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def keep(self, checkpoint: Path, *, wait: bool = False) -> None:
        """See `jobs.keeping.Held`."""
        self._require_mine()
        try:
            opened = Opened(checkpoint)
        except (OSError, ValueError, KeyError):  # damaged since, or gone: a newer one comes
            return
        with self._change:
            self._forget()
            self._pending = opened
            self._change.notify_all()
            while wait and (self._pending or self._busy) and not self._superseded:
                self._change.wait(1.0)
            if self._superseded:  # nobody takes it up any more
                self._forget()
        self._require_mine()

    def _forget(self) -> None:
        if self._pending:
            self._pending.__exit__(None, None, None)
        self._pending = None

    def finish(self) -> None:
        """Send all, and wait until it is there. Raises: Superseded."""
        self.close(None)
        self._require_mine()
        _patiently(self._finish, None)
        self._require_mine()

    def close(self, within_s: float | None) -> None:
        """Let what is under way end, within so many seconds if that is said; send journal and log once more."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(within_s)
        if within_s is not None and not self._superseded and not self._thread.is_alive():
            _patiently(self._last, within_s, quiet=True)

    def _last(self) -> None:
        self._grown(now=float("inf"))
        diverged = self._folder / DIVERGED
        if diverged.is_file() and not self._superseded:
            self._far.objects.put(self._far.key(diverged), diverged.read_bytes())

    def _finish(self) -> None:
        self._last()
        if self._superseded:
            return
        result = self._folder / "result"
        if not (result / MANIFEST).is_file():
            return
        with Opened(result) as opened:
            self._far.send(opened)
            self._seal(opened)
        self._far.drop(self._folder / "checkpoints")
        if self._folder.parent.name == NODE:  # a trial's is small, and its stage asks for it again
            shutil.rmtree(result, ignore_errors=True)

    def _work(self) -> None:
        wait_s = FIRST_S
        while True:
            with self._change:
                if self._closing and not self._pending:
                    return
                if not self._pending:
                    self._change.wait(min(SEND_S, 0.5 if self._closing else SEND_S))
                opened, self._pending = self._pending, None
                self._busy = opened is not None
            try:
                self._step(opened)
                wait_s = FIRST_S
            except (StoreError, OSError) as error:
                log.warning("%s is not kept yet: %s", opened.folder.name if opened else "the journal", error)
                self._again(opened)
                with self._change:
                    self._change.wait(wait_s)
                wait_s = min(LONGEST_S, 2 * wait_s)
            finally:
                with self._change:
                    self._busy = False
                    if self._superseded:
                        self._forget()
                    self._change.notify_all()
            if self._superseded:
                return

    def _step(self, opened: Opened | None) -> None:
        if opened is None:
            self._grown(now=time.monotonic())
            return
        self._far.send(opened)
        self._grown(now=float("inf"))  # what a checkpoint stands on is there before it
        self._seal(opened)
        opened.__exit__(None, None, None)
        if not self._superseded:
            with suppress(StoreError):  # kept it is; the next one drops what is too much
                self._drop_old()

    def _again(self, opened: Opened | None) -> None:
        """Take a checkpoint up again that could not be sent, unless a newer one waits."""
        with self._change:
            if opened and self._pending is None:
                self._pending = opened
            elif opened:
                opened.__exit__(None, None, None)

    def _grown(self, *, now: float) -> None:
        """Send journal and log as far as whole lines are written, where they have grown and are due by `now`."""
        for name in GROWING:
            path = self._folder / name
            if now < self._due[name] or not path.exists():
                continue
            content = mirror.whole_lines(path.read_bytes())
            if len(content) != self._sent.get(name, 0) and self._is_mine():
                self._far.objects.put(self._far.key(path), content)
                self._sent[name] = len(content)
            self._due[name] = time.monotonic() + max(SEND_S, len(content) / BYTES_PER_S)

    def _seal(self, opened: Opened) -> None:
        if self._is_mine():
            self._far.seal(opened)

    def _is_mine(self) -> bool:
        """Return whether no later attempt has begun; once one has, this one writes nothing more."""
        found = self._far.objects.get(self._far.key(self._folder / ATTEMPT))
        self._superseded |= found is None or found[0].decode(errors="replace") != self._attempt
        return not self._superseded

    def _require_mine(self) -> None:
        if self._superseded:
            raise Superseded(f"{self._folder.name}: another attempt began on another node")

    def _drop_old(self) -> None:
        """Remove the checkpoints there that retention lets go."""
        there = self._far.checkpoints(self._folder)
        scores: Mapping[int, float | None] = {int(each.name): None for each in there}
        if self._retention.keep_best:
            scores = {int(each.name): self._far.score(each) for each in there}
        gone = checkpoint.expendable(scores, last=self._retention.keep_last, best=self._retention.keep_best)
        self._far.drop(*(each for each in there if int(each.name) in gone))


def _patiently(act: Callable[[], None], within_s: float | None, *, quiet: bool = False) -> None:
    """Do something that asks the bucket, again and again where it does not answer; None: for ever.

    Raises: StoreError when `within_s` seconds were not enough, unless `quiet`.
    """
    began, wait_s = time.monotonic(), FIRST_S
    while True:
        try:
            act()
            return
        except Damaged:
            raise
        except StoreError as error:
            left = None if within_s is None else within_s - (time.monotonic() - began)
            if left is not None and left <= 0:
                if quiet:
                    return
                raise
            log.warning("the bucket does not answer, this waits: %s", error)
            time.sleep(wait_s if left is None else min(wait_s, max(0.05, left)))
            wait_s = min(LONGEST_S, 2 * wait_s)
