"""Packed stores whose images lie elsewhere, such as in a bucket: a folder holds all but images.bin.

This package reads no network: who brings the small files of a store (`packed`) names the reader for their folder, in
each process that loads it. A reader travels with the images to the processes that decode them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Reader(Protocol):
    """Reads the bytes of images.bin; it can be pickled."""

    def read(self, start: int, end: int) -> NDArray[np.uint8]:
        """Return the bytes from `start` to before `end`, writable. Raises: DataError."""
        ...


_readers: dict[Path, Reader] = {}


def name(folder: Path, reader: Reader) -> None:
    """Say who reads the images of the store whose other files lie in `folder`."""
    _readers[folder.resolve()] = reader


def reader_of(folder: Path) -> Reader | None:
    """Return who reads the images of a store; None where they lie in its folder."""
    return _readers.get(folder.resolve())
