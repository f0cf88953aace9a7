"""Digests of a folder's files, remembered by size and time of change, in the user's cache and never in the folder.

One JSON file for each folder below $XDG_CACHE_HOME/leoclr-ops (else ~/.cache/leoclr-ops). It may be deleted at any
time: the next digest takes as long as the first.

Two strengths. `files`: every byte counts, and a file is read again when its size or time of change moves. `folders`,
for the sets whose bytes take hours to read (ImageNet: 150 GB): names and sizes of the images count, and a folder is
listed again when its own time of change moves, which adding, removing, renaming or replacing a file does. A file of
another size written into the old one's place does not, until `forget`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from leoclr.data.contract import DataError
from leoclr.data.files import images_in, require_file

_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within the same tick of its clock


def digest_tree(base: Path, rule: str, *, files: Iterable[Path] = (), folders: Iterable[Path] = ()) -> str:
    """Return the sha256 (hex) of `rule`, of the names and bytes of `files`, and of what `folders` list.

    All lie below `base`; `rule` says how they become splits.

    Raises: DataError naming a file or folder that cannot be read.
    """
    cache = DigestCache.open(base)
    whole = hashlib.sha256(rule.encode())
    try:
        for path in files:
            size, content = cache.digest(path)
            whole.update(f"\n{path.relative_to(base).as_posix()}\0{size}\0{content}".encode("utf-8", "surrogateescape"))
        for path in folders:
            listing = cache.listing(path)
            whole.update(f"\n{path.relative_to(base).as_posix()}/\0{listing}".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}", hint="is the data set whole?") from error
    cache.save()
    return whole.hexdigest()


def forget(root: Path) -> None:
    """Forget what is remembered of all that lies below `root`: its next digest reads and lists everything."""
    below = f"{root.resolve()}{os.sep}"
    for path in _folder_digests().glob("*.json"):
        if any(key.startswith(below) for key in _read(path)):
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class DigestCache:
    """Digests of the files below one folder."""

    path: Path
    known: dict[str, tuple[int, int, str]]  # file: size in bytes, time of change in ns, sha256 (hex)
    seen: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> DigestCache:
        """Return what is remembered of `folder`: nothing when there is no cache, or it is damaged."""
        path = _cache_file(folder)
        return cls(path, _read(path))

    def digest(self, file: Path) -> tuple[int, str]:
        """Return size in bytes and sha256 (hex) of a file, read only when size or time of change moved."""
        stat = file.stat()
        require_file(file, stat)
        key, size, changed = str(file), stat.st_size, stat.st_mtime_ns
        old = self.known.get(key)
        content = old[2] if old is not None and old[:2] == (size, changed) else _sha256(file)
        if time.time_ns() - changed > _SETTLED_NS:
            self.seen[key] = (size, changed, content)
        return size, content

    def listing(self, folder: Path) -> str:
        """Return the sha256 (hex) of names and sizes of a folder's images, listed when its time of change moved."""
        stat = folder.stat()
        key, changed = f"{folder}/", stat.st_mtime_ns
        old = self.known.get(key)
        content = old[2] if old is not None and old[1] == changed else _listed(folder)
        if time.time_ns() - changed > _SETTLED_NS:
            self.seen[key] = (stat.st_size, changed, content)
        return content

    def save(self) -> None:
        """Remember the files of this pass, in place of all that was known. Warns when the cache cannot be written."""
        if self.seen == self.known:
            return
        draft = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(self.seen), encoding="utf-8")
            draft.replace(self.path)  # whole or not at all, whoever else writes
        except OSError as error:  # a read-only home: only time is lost
            warnings.warn(f"digests of images are not remembered: {error}", stacklevel=2)


def cache_home() -> Path:
    """Return the user's folder for what may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leoclr-ops"


def _folder_digests() -> Path:
    return cache_home() / "folder-digests"


def _cache_file(folder: Path) -> Path:
    return _folder_digests() / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"


def _listed(folder: Path) -> str:
    whole = hashlib.sha256()
    for entry in images_in(folder):
        whole.update(f"{entry.name}\0{entry.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _read(path: Path) -> dict[str, tuple[int, int, str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).items()
        return {str(name): (int(size), int(changed), str(content)) for name, (size, changed, content) in entries}
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: nothing is remembered
        return {}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
