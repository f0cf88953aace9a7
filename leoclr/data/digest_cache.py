"""Digests of a folder's files, remembered by size and time of change, in the user's cache and never in the folder.

One JSON file for each folder below $XDG_CACHE_HOME/leoclr-ops (else ~/.cache/leoclr-ops). It may be deleted at any
time: the next digest takes as long as the first.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within the same tick of its clock


@dataclass(slots=True)
class DigestCache:
    """Digests of the files below one folder."""

    path: Path
    known: dict[str, tuple[int, int, str]]  # file: size in bytes, time of change in ns, sha256 (hex)
    seen: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> DigestCache:
        """Return what is remembered of `folder`: nothing when there is no cache, or it is damaged."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        path = home / "leoclr-ops" / "folder-digests" / f"{name}.json"
        return cls(path, _read(path))

    def digest(self, file: Path) -> tuple[int, str]:
        """Return size in bytes and sha256 (hex) of a file, read only when size or time of change moved."""
        stat = file.stat()
        key, size, changed = str(file), stat.st_size, stat.st_mtime_ns
        old = self.known.get(key)
        content = old[2] if old is not None and old[:2] == (size, changed) else _sha256(file)
        if time.time_ns() - changed > _SETTLED_NS:
            self.seen[key] = (size, changed, content)
        return size, content

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


def _read(path: Path) -> dict[str, tuple[int, int, str]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).items()
        return {str(name): (int(size), int(changed), str(content)) for name, (size, changed, content) in entries}
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: nothing is remembered
        return {}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
