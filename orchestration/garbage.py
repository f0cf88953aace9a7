"""What may go: files that nothing needs any more, of which a list is made first. To remove them is another step.

Only what is provably spare is listed:

- a stage's folder, here and in the mirror, once a run of its fingerprint is finished and its artifacts are what their
  manifest says: then no command reads the folder again;
- drafts that a kill left, and uploads that were never ended;
- copies of artifacts that were brought here: they are brought again when somebody asks;
- full states (`superseded`) of finished runs that no table can show and nothing stands on: those of another results
  version, and those whose fingerprint was computed again since.

Never listed: what belongs to a run that is running, stopped or failed (it goes on from there); a stage of which this
store knows nothing; anything outside of the home and of the mirror's prefix; what changed within `older_s`. Copies are
left alone while any submission runs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from jobs.inputs import CHECKPOINT
from leoclr import RESULTS_VERSION
from orchestration import mirror, records, storage
from orchestration.cluster.objects import Stat
from orchestration.mirror import Mirror
from orchestration.records import StageRun
from orchestration.storage import NODE, Home
from orchestration.table.chain import Chain
from orchestration.tracking import Store

LOCKS = ("lock", "worker.lock")  # stay: another process may wait for one, and a new file would be another lock
DRAFTS = (".result-*", ".import", "checkpoints/.draft-*", "checkpoints/.draft")


@dataclass(frozen=True, slots=True)
class Spare:
    """Something that may go."""

    place: str
    why: str
    bytes: int
    _drop: Callable[[], bool] = field(repr=False, compare=False)

    def drop(self) -> bool:
        """Remove it; leave it where somebody has taken it up again: False. Raises: StoreError, OSError."""
        return self._drop()


def find(home: Home, store: Store, *, older_s: float, superseded: bool = False) -> Iterator[Spare]:
    """Yield what may go and did not change for `older_s` seconds. Raises: StoreError."""
    before_s = time.time() - older_s
    known = _Known(store)
    for folder in _entries(home.path / "stages", home.path / NODE):
        yield from _stage(folder, known, before_s)
    idle = not store.running()[0]
    if idle:
        yield from _copies(_entries(home.path / "cache"), before_s)
    if far := mirror.of(home):
        yield from _mirrored(far, known, before_s, idle=idle)
    if superseded:
        yield from _superseded(store, before_s)


class _Known:
    """What the store says of fingerprints, each asked once."""

    def __init__(self, store: Store) -> None:
        self._store, self._done = store, dict[str, str]()

    def done(self, fingerprint: str) -> str:
        """Return the run that is finished and sound, "" where there is none or another one is not over yet."""
        if fingerprint not in self._done:
            runs = self._store.past_runs(fingerprint)
            sound = next((run.run_id for run in runs if run.reusable), "")
            self._done[fingerprint] = "" if any(run.status == "RUNNING" for run in runs) else sound
        return self._done[fingerprint]

    def ask_again(self, fingerprint: str) -> bool:
        """Return whether it is done, as of now."""
        self._done.pop(fingerprint, None)
        return bool(self.done(fingerprint))


def _stage(folder: Path, known: _Known, before_s: float) -> Iterator[Spare]:
    files = [path for path in _files(folder) if path.name not in LOCKS] if _stands(folder, before_s) else []
    if not files:
        return
    if run := known.done(folder.name):
        why = f"run {run[:8]} is finished and has its result"
        yield Spare(str(folder), why, _size(files), partial(_empty, folder, known))
        return
    for pattern in DRAFTS:
        for draft in folder.glob(pattern):
            yield Spare(
                str(draft), "a kill left it half-written", _size(_files(draft)), partial(_discard, draft, folder)
            )


def _copies(entries: Iterable[Path], before_s: float) -> Iterator[Spare]:
    for folder in entries:
        if _stands(folder, before_s):
            why = "a copy of an artifact; it is brought again when it is asked for"
            yield Spare(str(folder), why, _size(_files(folder)), _always(partial(shutil.rmtree, folder)))


def _mirrored(far: Mirror, known: _Known, before_s: float, *, idle: bool) -> Iterator[Spare]:
    for fingerprint, objects in _by_folder(far, "stages/"):
        if max(each.modified_s for each in objects) <= before_s and (run := known.done(fingerprint)):
            why = f"run {run[:8]} is finished and has its result"
            yield _objects(far, f"stages/{fingerprint}/", objects, why, partial(known.ask_again, fingerprint))
    for digest, objects in _by_folder(far, "cache/") if idle else ():
        if max(each.modified_s for each in objects) <= before_s:
            why = "a copy of an artifact; it is put there again when it is asked for"
            yield _objects(far, f"cache/{digest}/", objects, why)
    for key, upload, began_s in far.objects.unfinished():
        if began_s <= before_s:
            place = far.objects.place(key)
            yield Spare(place, "an upload that was never ended", 0, _always(partial(far.objects.abort, key, upload)))


def _superseded(store: Store, before_s: float) -> Iterator[Spare]:
    chain = Chain.of_all(store)
    finished = [run for run in chain.runs.values() if run.status == "FINISHED"]
    spare = {run.run_id: why for run in finished if (why := _replaced(run, chain))}
    needed = {run.run_id for run in chain.walk(run.run_id for run in finished if run.run_id not in spare)}
    for run in finished:
        if run.run_id in spare.keys() - needed and (run.ended_ms or 0) / 1000 <= before_s:
            size = store.size_of(run.run_id, CHECKPOINT)
            if size:
                drop = _always(partial(store.drop_file, run.run_id, CHECKPOINT))
                yield Spare(f"run {run.run_id} {CHECKPOINT}", spare[run.run_id], size, drop)


def _replaced(run: StageRun, chain: Chain) -> str:
    """Return why no table can show a finished run any more; "" where one can."""
    version = run.tags.get(records.RESULTS_VERSION)
    if version != str(RESULTS_VERSION):
        return f"its results version is {version}, now {RESULTS_VERSION}"
    newest = chain.origins[run.tags.get(records.FINGERPRINT, "")]
    return "" if newest.run_id == run.run_id else f"run {newest.run_id[:8]} computed the same since"


def _by_folder(far: Mirror, start: str) -> Iterator[tuple[str, list[Stat]]]:
    for name, group in groupby(far.objects.list(start), key=lambda each: each.key.split("/")[1]):
        yield name, list(group)


def _objects(far: Mirror, key: str, objects: list[Stat], why: str, still: Callable[[], bool] | None = None) -> Spare:
    def drop() -> bool:
        if still is not None and not still():
            return False
        far.objects.delete(sorted((each.key for each in objects), key=lambda key: not key.endswith("/manifest.json")))
        return True

    return Spare(far.objects.place(key), why, sum(each.bytes for each in objects), drop)


def _always(drop: Callable[[], None]) -> Callable[[], bool]:
    """Return what removes a thing that nobody takes up again."""

    def dropped() -> bool:
        drop()
        return True

    return dropped


def _empty(folder: Path, known: _Known) -> bool:
    """Remove what is in a stage's folder, unless somebody has it now, or it is not done any more."""
    try:
        with storage.locked(folder / LOCKS[0]), storage.locked(folder / LOCKS[1]):
            if not known.ask_again(folder.name):
                return False
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name not in LOCKS:
                    path.unlink()
            return True
    except storage.Busy:
        return False


def _discard(draft: Path, folder: Path) -> bool:
    try:
        with storage.locked(folder / LOCKS[0]), storage.locked(folder / LOCKS[1]):
            shutil.rmtree(draft, ignore_errors=True)
            return not draft.exists()
    except storage.Busy:
        return False


def _entries(*folders: Path) -> Iterator[Path]:
    """Yield the folders inside folders; links are not followed."""
    for folder in folders:
        if folder.is_dir():
            yield from (each for each in sorted(folder.iterdir()) if each.is_dir() and not each.is_symlink())


def _files(path: Path) -> list[Path]:
    """Return the files below a folder, or the one that it is."""
    if not path.is_dir():
        return [path]
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return [each for each in found if each.is_file()]


def _size(files: Iterable[Path]) -> int:
    """Return the bytes of files; one that is gone has none."""
    total = 0
    for path in files:
        with suppress(FileNotFoundError):
            total += 0 if path.is_symlink() else path.lstat().st_size
    return total


def _stands(folder: Path, before_s: float) -> bool:
    """Return whether nothing in a folder changed after `before_s`, Unix time; what vanishes meanwhile changes now."""
    try:
        found = (path.lstat().st_mtime for path in (folder, *folder.rglob("*")) if path.name not in LOCKS)
        return max(found) <= before_s
    except FileNotFoundError:
        return False
