"""A driver's half of the mirror: it holds the leases of its stages, and sees here what their workers wrote elsewhere.

A thread gives signs of life for every lease, and brings journal and log of every stage that is held, some seconds after
they were written. Only what the mirror has reaches the tracking store: a worker that goes on elsewhere goes on from
exactly that, so that no step is recorded twice.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestration import mirror
from orchestration.errors import StoreError
from orchestration.leases import BEAT_S, Lease, Leases
from orchestration.mirror import JOURNAL, LOG, RUN, Mirror
from orchestration.storage import Home, write_atomic

LEDGER = "ledger.jsonl"  # of a sweep; it only grows
SWEEP_FILES = "identity.json", RUN, "about.json", LEDGER
PULL_S = 3.0  # between two looks at what workers write


@dataclass(slots=True)
class _Stage:
    lease: Lease
    etags: dict[str, str] = field(default_factory=dict)  # of what was brought, by file


class Watch:
    """The mirror of one home as its drivers see it. All methods raise StoreError."""

    def __init__(self, far: Mirror) -> None:
        self._far = far
        self._leases = Leases(far.objects, str(far.home))
        self._held: dict[Path, _Stage] = {}
        self._lock = threading.Lock()  # around _held; never held while the bucket is asked
        self._pulling = threading.Lock()  # one at a time writes a driver's copies
        self._thread: threading.Thread | None = None
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What keeps us from seeing what workers write, in words; "" while nothing does."""
        return self._trouble

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        """Hold a stage: the caller has this host's lock of it. Raises: Busy when another host has it."""
        lease = self._leases.take(self._far.key(folder / "lease"))
        try:
            self._begin(folder)
            with self._kept(folder, lease):
                yield
        finally:
            self._release(lease)

    @contextmanager
    def claimed(self, memory: Path) -> Iterator[None]:
        """Hold what says in which run a plan is recorded, and bring that. Raises: Busy when another host has it."""
        lease = self._leases.take(self._far.key(memory.with_suffix(".lease")))
        try:
            if not memory.exists():
                self._far.bring(memory)
            with self._kept(memory, lease):
                yield
        finally:
            self._release(lease)

    def confirm(self, folder: Path) -> None:
        """Make sure that the stage is still ours; nobody can take it over for `LEASE_S` then. Raises: Busy."""
        with self._lock:
            held = self._held.get(folder)
        if held:
            self._leases.renew(held.lease)

    def pull(self, folder: Path) -> None:
        """Bring journal and log as far as they are there."""
        with self._lock:
            held = self._held.get(folder)
        if held:
            with self._pulling:
                for name in (JOURNAL, LOG):
                    self._pull(folder / name, held)

    def fetch(self, folder: Path) -> None:
        """Bring the sealed result of a stage, if it is there."""
        self._far.fetch(folder / "result", fingerprint=folder.name)

    def note(self, path: Path) -> None:
        """Keep a small file there too."""
        self._far.objects.put(self._far.key(path), path.read_bytes())

    def bring_sweeps(self, root: Path) -> None:
        """Bring what is there of the sweeps of one name, whose folders are numbered: what is not here, or went on."""
        prefix = self._far.key(root) + "/"
        for each in self._far.objects.list(prefix):
            number, _, file = each.key.removeprefix(prefix).partition("/")
            path = root / number / file
            if not number.isdecimal() or file not in SWEEP_FILES:
                continue
            if file != LEDGER:
                if not path.exists():
                    self._far.bring(path)
            elif found := self._far.objects.get(each.key):
                own = path.read_bytes() if path.exists() else b""
                if not own.startswith(found[0]):  # else this head's is as long, or longer
                    write_atomic(path, found[0])

    def has_state(self, folder: Path) -> bool:
        """Return whether there is something that a stage goes on from."""
        return bool(self._far.checkpoints(folder)) or self._far.manifest(folder / "result") is not None

    def forget_journal(self, folder: Path) -> None:
        """Remove the journal, there and here: the stage begins anew, in another run."""
        with self._pulling:  # what is being brought now would come back
            self._far.objects.delete([self._far.key(folder / JOURNAL)])
            (folder / JOURNAL).unlink(missing_ok=True)

    def drop(self, folder: Path) -> None:
        """Remove what a stage leaves that is recorded; journal, log and run id stay."""
        self._far.drop(folder / "result", folder / "checkpoints", folder / "trials")

    def share(self, path: Path, home: Home) -> Path:
        """Bring a file there that stages start from; return its path on the nodes."""
        return self._far.share(path, home)

    def require(self) -> None:
        """Find out whether the bucket can be used. Raises: StoreError."""
        self._far.objects.require()

    @contextmanager
    def _kept(self, path: Path, lease: Lease) -> Iterator[None]:
        """Have the thread renew a lease meanwhile."""
        with self._lock:
            self._held[path] = _Stage(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="mirror-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(path, None)

    def _begin(self, folder: Path) -> None:
        """Bring what is known of a stage; what this host knew of it from before is older."""
        folder.mkdir(parents=True, exist_ok=True)
        self._far.bring(folder / RUN)
        for name in (JOURNAL, LOG):
            found = self._far.objects.get(self._far.key(folder / name))
            path, content = folder / name, found[0] if found else b""
            if path.exists() and not content.startswith(path.read_bytes()):
                (folder / "journal.sent").unlink(missing_ok=True)
                path.unlink()
            if content:
                _extend(path, content)

    def _pull(self, path: Path, held: _Stage) -> None:
        found = self._far.objects.get(self._far.key(path), known=held.etags.get(path.name, ""))
        if found is None:
            return
        content, etag = found
        if not _extend(path, content):
            raise StoreError("it does not go on from what was read before", place=self._far.key(path))
        held.etags[path.name] = etag

    def _watch(self) -> None:
        beat_at = time.monotonic() + BEAT_S
        while True:
            time.sleep(PULL_S)
            with self._lock:
                held = dict(self._held)
                if not held:
                    self._thread = None
                    return
            trouble = [self._try_pull(path) for path in held]
            if time.monotonic() >= beat_at:
                trouble += [self._beat(each.lease) for each in held.values()]
                beat_at = time.monotonic() + BEAT_S
            self._trouble = next(filter(None, trouble), "")

    def _try_pull(self, path: Path) -> str:
        try:
            if path.is_dir():
                self.pull(path)
        except (StoreError, OSError) as error:
            return f"the mirror waits: {error}"
        return ""

    def _beat(self, lease: Lease) -> str:
        try:
            if not lease.lost:
                self._leases.renew(lease)
        except StoreError as error:
            return f"the mirror waits: {error}"
        return ""

    def _release(self, lease: Lease) -> None:
        """Give a lease back where the bucket answers; where it does not, it ends by itself."""
        if self._trouble:
            return
        try:
            self._leases.release(lease)
        except StoreError as error:
            self._trouble = str(error)


@functools.cache
def of(home: Home) -> Watch | None:
    """Return what drivers of this home see of its mirror, None where it has none. Raises: StoreError."""
    far = mirror.of(home)
    return Watch(far) if far else None


def _extend(path: Path, content: bytes) -> bool:
    """Make a file that only grows hold `content`; False where it does not go on from what it holds."""
    own = path.read_bytes() if path.exists() else b""
    if not content.startswith(own):
        return False
    if own:
        with path.open("ab") as file:
            file.write(content[len(own) :])
    else:
        write_atomic(path, content)
    return True
