"""A cache on disk of bounded size, shared by the processes of a machine: pieces of files that lie elsewhere.

A block is a file: its bytes, then their CRC-32. It appears whole, in one rename, so that processes need not wait for
each other. What was not read for longest goes first. A process counts what it adds, and looks at the whole folder when
that is a share of the limit: the limit holds for `PROCESSES` writers at once.
"""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from pathlib import Path

from orchestration.storage import Busy, locked, safe_name

PROCESSES = 64
_KEPT = 0.8  # of the limit, after a sweep
_TOUCH_S = 60.0  # a block that was read so recently is not marked again
_CRC_BYTES = 4


class Blocks:
    """The blocks of one cache folder; it can be pickled."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit = folder, limit_bytes
        self._added: float = limit_bytes  # the first addition of a process looks at what is there
        self._sound: set[str] = set()  # blocks whose sum this process has checked

    def read(self, name: str, start: int, end: int) -> bytes | None:
        """Return bytes of a block, None where it is not there, or is damaged."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                if name not in self._sound and not self._check(name, file.read()):
                    path.unlink(missing_ok=True)
                    return None
                stat = os.fstat(file.fileno())
                content = os.pread(file.fileno(), end - start, start)
                if time.time() - stat.st_mtime > _TOUCH_S:
                    os.utime(path)
        except FileNotFoundError:
            return None
        return content if len(content) == end - start else None

    def write(self, name: str, content: bytes) -> None:
        """Keep a block. Raises: OSError."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._added >= self._limit * (1 - _KEPT) / PROCESSES:
            self._sweep()
            self._added = 0
        handle, draft = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content + zlib.crc32(content).to_bytes(_CRC_BYTES, "little"))
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink()
            raise
        self._added += len(content) + _CRC_BYTES

    def _path(self, name: str) -> Path:
        return self._folder / name[-2:] / safe_name(name)  # the last digits: as many in each folder

    def _check(self, name: str, whole: bytes) -> bool:
        content, crc = whole[:-_CRC_BYTES], whole[-_CRC_BYTES:]
        if zlib.crc32(content).to_bytes(_CRC_BYTES, "little") != crc:
            return False
        self._sound.add(name)
        return True

    def _sweep(self) -> None:
        """Remove what was not read for longest, down to a share of the limit; another process may be doing that."""
        try:
            with locked(self._folder / "lock"):
                found = sorted(self._files())
                excess = sum(size for _, size, _ in found) - self._limit * _KEPT
                for _, size, path in found:
                    if excess <= 0:
                        return
                    path.unlink(missing_ok=True)
                    excess -= size
        except Busy:
            return

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for folder in (each for each in os.scandir(self._folder) if each.is_dir()):
            for entry in os.scandir(folder):
                try:
                    stat = entry.stat()
                except FileNotFoundError:  # another process was faster
                    continue
                found.append((stat.st_mtime, stat.st_size, Path(entry.path)))
        return found
