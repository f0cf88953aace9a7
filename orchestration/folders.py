"""The folders of the home as the runner sees them: which run is recorded where, and the sealed result of a stage.

With a mirror they are copies of what workers write on their nodes (`mirror_watch`); without one it is the same folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from leoclr import checkpoint
from orchestration import mirror_watch, storage
from orchestration.errors import StoreError
from orchestration.mirror_watch import Watch
from orchestration.storage import MANIFEST, Home, write_atomic


@dataclass(frozen=True, slots=True)
class Sealed:
    """A whole result on disk."""

    folder: Path
    metrics: dict[str, float]
    ended_ms: int  # Unix time at which the worker sealed it: the same however often it is recorded


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one fingerprint; its owner holds `lock`, and with a mirror the lease there (`held`).

    With a mirror, all but `run_id` raise StoreError where that does not answer.
    """

    path: Path
    far: Watch | None = field(default=None, compare=False)

    @classmethod
    def of(cls, home: Home, fingerprint: str) -> StageFolder:
        """Return the folder of a stage, with the home's mirror."""
        return cls(home.stage(fingerprint), mirror_watch.of(home))

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the stage, on this host and for all others. Raises: Busy."""
        with storage.locked(self.lock):
            if self.far is None:
                yield
            else:
                with self.far.held(self.path):
                    yield

    def confirmed(self) -> StageFolder:
        """Return this folder, surely still held, with all that its worker wrote. Raises: Busy where another has it."""
        if self.far:
            self.far.confirm(self.path)
            self.far.pull(self.path)
        return self

    def run_id(self) -> str | None:
        """Return the MLflow run that this stage is recorded in, or None."""
        return read_run(self.path / "run.json")

    def note_run(self, run_id: str) -> None:
        """Say which run the stage is recorded in; a new one gets the whole history, or its own without a checkpoint."""
        if run_id != self.run_id():
            (self.path / "journal.sent").unlink(missing_ok=True)
            if not self._has_state():
                self._forget_journal()
        write_run(self.path / "run.json", run_id)
        if self.far:
            self.far.note(self.path / "run.json")

    def sealed(self) -> Sealed | None:
        """Return the result if it is there and whole."""
        folder = self.path / "result"
        if self.far and not (folder / MANIFEST).exists():
            self.far.fetch(self.path)
        if not checkpoint.sealed(folder, fingerprint=self.path.name):
            return None
        ended_ms = int(json.loads((folder / MANIFEST).read_text())["ended_ms"])
        return Sealed(folder, json.loads((folder / "metrics.json").read_text()), ended_ms)

    def drop_result(self) -> None:
        """Remove what MLflow has now, and what a killed worker left of its checkpoints; log, journal, run id stay."""
        for part in ("result", "checkpoints"):
            shutil.rmtree(self.path / part, ignore_errors=True)
        if self.far:
            with contextlib.suppress(StoreError):  # recorded it is; `gc` finds what is left
                self.far.drop(self.path)

    def _forget_journal(self) -> None:
        if self.far:
            self.far.forget_journal(self.path)
        else:
            (self.path / "journal.jsonl").unlink(missing_ok=True)

    def _has_state(self) -> bool:
        if self.far:
            return self.far.has_state(self.path)
        return any((self.path / part).exists() for part in ("checkpoints", "result"))


@contextmanager
def claimed(home: Home, memory: Path) -> Iterator[None]:
    """Hold the file that says in which run a plan is recorded. Raises: Busy when another process does."""
    far = mirror_watch.of(home)
    with storage.locked(memory.with_suffix(".lock")):
        if far is None:
            yield
        else:
            with far.claimed(memory):
                yield


def note_submission(home: Home, memory: Path, run_id: str) -> None:
    """Note in which run a plan is recorded."""
    write_run(memory, run_id)
    if far := mirror_watch.of(home):
        far.note(memory)


def bring_sweeps(home: Home, root: Path) -> None:
    """Bring what the mirror knows of the sweeps of one name, another head's. Raises: StoreError."""
    if far := mirror_watch.of(home):
        far.bring_sweeps(root)


def keep_sweep(home: Home, folder: Path) -> None:
    """Keep in the mirror what a sweep needs to go on from another head. Raises: StoreError."""
    if far := mirror_watch.of(home):
        for path in (folder / name for name in mirror_watch.SWEEP_FILES):
            if path.exists():
                far.note(path)


def shared(home: Home, path: Path) -> Path:
    """Return the path on the nodes of a file that a stage starts from."""
    far = mirror_watch.of(home)
    return far.share(path, home) if far else path


def require_mirror(home: Home) -> None:
    """Find out whether the mirror of a home can be used, if it has one. Raises: StoreError."""
    if far := mirror_watch.of(home):
        far.require()


def trouble(home: Home) -> str:
    """Return what is wrong with the mirror of a home, in words; "" where nothing is."""
    far = mirror_watch.of(home)
    return far.trouble if far else ""


def read_run(path: Path) -> str | None:
    """Return the run id noted in a file, or None."""
    try:
        return str(json.loads(path.read_text())["run_id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # never written, or torn by a crash while it was
        return None


def write_run(path: Path, run_id: str) -> None:
    """Note a run id in a file."""
    write_atomic(path, json.dumps({"run_id": run_id}))
