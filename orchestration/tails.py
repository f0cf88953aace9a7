"""A log that grows, in a file of this machine or among the artifacts of a run, read line by line as it comes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from orchestration.errors import printable
from orchestration.tracking import Store

LIVE = "live"  # folder of the artifacts of a stage that runs, or was stopped, on a machine that others do not see
COLOR = re.compile(r"\x1b\[[0-9;]*m")
LOG = "log.txt"  # of a stage: in its folder while it runs, among its results when it is done


class Source(Protocol):
    """Where a log comes from."""

    def read(self, offset: int) -> bytes:
        """Return what is behind `offset`; nothing where there is nothing, or not yet."""
        ...


class File:
    """A file that grows, and may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, offset: int) -> bytes:
        """Return what is behind `offset`."""
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return file.read()
        except FileNotFoundError:
            return b""


class Artifact:
    """The log that a driver on another machine brings to the run of a stage, every few seconds while it grows."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id, self._size = store, run_id, 0

    def read(self, offset: int) -> bytes:
        """Return what is behind `offset`. Raises: StoreError."""
        size = self._store.sizes(self._run_id, LIVE).get(f"{LIVE}/{LOG}", 0)
        if size == self._size:
            return b""
        self._size = size
        return (self._store.text(self._run_id, f"{LIVE}/{LOG}") or "").encode()[offset:]


class Tail:
    """Reads whole lines of a log; `prefix` is put in front of each."""

    def __init__(self, source: Source, prefix: str = "") -> None:
        self._source, self._prefix, self._offset, self._rest = source, prefix, 0, b""

    def last(self, lines: int | None, *, whole: bool) -> Iterable[str]:
        """Return the last of the lines that are new, all where `lines` is None."""
        return deque(self.more(whole=whole), maxlen=lines)

    def more(self, *, whole: bool = True) -> Iterator[str]:
        """Yield the lines that are new; half a line, which is still being written, only where `whole` is off."""
        new = self._source.read(self._offset)
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        if not whole and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            yield self._prefix + _shown(line.decode(errors="replace"))


def _shown(line: str) -> str:
    """Return a line as a terminal would show it, without its colours; nothing in it moves the cursor.

    >>> _shown("10 %\\r100 %\\r"), _shown("\\x1b[31mred\\x1b[0m\\tor\\x1b[2Jnot")
    ('100 %', 'red\\tor\\\\x1b[2Jnot')
    """
    return printable(COLOR.sub("", line.rstrip("\r").rpartition("\r")[2]), keep="\t")
