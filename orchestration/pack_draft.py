"""What a packing has written so far: images.bin, and a line of a journal for each block of images that is whole.

A block is whole once its bytes and then its line have reached the disk. To continue is to read the blocks back, as long
as each one's originals are as they were and its bytes have their sha256; what follows is cut off. The journal is
bound to what decides the bytes: under another binding it counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TextIO

from leoclr.data.manifest import IMAGES

_READ_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class Block:
    """Images that are packed together."""

    key: str  # digest of the originals' paths, sizes and times of change
    bytes: int = 0  # of the images, one after the other
    sha256: str = ""  # hex, of images.bin from its beginning to the end of this block
    images: list[tuple[int, int, int]] = field(default_factory=list)  # bytes, height and width of each
    left_out: dict[int, str] = field(default_factory=dict)  # originals that are no image, by place among all: why


class Draft:
    """The folder of a packing under way, open; `store` is the part of it that becomes the store."""

    def __init__(self, folder: Path, binding: str) -> None:
        """Open what is there of a packing with the same `binding`, or begin one. Raises: OSError."""
        self.store, self.blocks = folder / "store", list[Block]()
        self._journal, self._binding = folder / "journal.jsonl", binding
        self.store.mkdir(parents=True, exist_ok=True)
        (self.store / IMAGES).touch()
        self._stream: BinaryIO = (self.store / IMAGES).open("r+b")
        self._hash = hashlib.sha256()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()

    @property
    def size_bytes(self) -> int:
        """Size of all blocks that are whole."""
        return sum(block.bytes for block in self.blocks)

    @property
    def sha256(self) -> str:
        """sha256 (hex) of images.bin."""
        return self._hash.hexdigest()

    def keep(self, keys: Iterable[str]) -> None:
        """Keep the blocks, in order, whose originals still have these keys and whose bytes are whole; drop the rest.

        Raises: OSError.
        """
        for key, block in zip(keys, self._written(), strict=False):
            if block.key != key or not self._holds(block):
                break
            self.blocks.append(block)
        self._stream.truncate(self.size_bytes)
        self._stream.seek(self.size_bytes)
        _sync(self._stream)
        fresh = self._journal.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as journal:
            lines = (json.dumps(self._binding), *(json.dumps(asdict(block)) for block in self.blocks))
            journal.write("".join(f"{line}\n" for line in lines))
            _sync(journal)
        fresh.replace(self._journal)

    def add(self, block: Block, content: bytes, height: int, width: int) -> None:
        """Write an image of `block`. Raises: OSError, such as for a full disk."""
        self._stream.write(content)
        block.images.append((len(content), height, width))
        block.bytes += len(content)
        self._hash.update(content)

    def close(self, block: Block) -> None:
        """Bring `block` to the disk: from here on it outlives whatever happens. Raises: OSError."""
        _sync(self._stream)
        block.sha256 = self.sha256
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(block)) + "\n")
            _sync(journal)
        self.blocks.append(block)

    def _written(self) -> Iterator[Block]:
        """Yield the blocks of the journal up to the first line that is not whole; none under another binding."""
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
            if json.loads(lines[0]) != self._binding:
                return
            for line in lines[1:]:
                found = json.loads(line)
                images = [(int(size), int(height), int(width)) for size, height, width in found["images"]]
                left_out = {int(place): str(reason) for place, reason in found["left_out"].items()}
                key, count, sha256 = str(found["key"]), int(found["bytes"]), str(found["sha256"])
                yield Block(key=key, bytes=count, sha256=sha256, images=images, left_out=left_out)
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):  # none, or its end was cut off
            return

    def _holds(self, block: Block) -> bool:
        """Return whether the next bytes of images.bin are the block's; they count as read if so."""
        left, whole = block.bytes, self._hash.copy()
        while left > 0 and (part := self._stream.read(min(left, _READ_BYTES))):
            left -= len(part)
            whole.update(part)
        if left or whole.hexdigest() != block.sha256 or block.bytes != sum(size for size, _, _ in block.images):
            return False
        self._hash = whole
        return True


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and bring it to the disk. Raises: OSError."""
    with path.open("wb") as stream:
        stream.write(content)
        _sync(stream)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk. Raises: OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(stream: BinaryIO | TextIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())
