"""Image files, decoded when asked for; no decoder is imported before the first read, so a digest needs numpy alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataError
from leoclr.data.decoding import decode

MAX_BYTES = 1 << 30  # of an image file; the largest of ImageNet has 15 MB
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, in any case of letters: torchvision/datasets/folder.py, IMG_EXTENSIONS."""


def images_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return the images right inside `folder`, sorted by name; links are followed, dotted names passed over.

    Raises: OSError when it cannot be listed; DataError at a pipe or a device that is called like an image.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "."]
    for entry in found:
        if not (entry.is_file() or entry.is_dir()) and Path(entry.path).exists():
            require_file(Path(entry.path), entry.stat())
    return sorted((entry for entry in found if not entry.is_dir()), key=lambda entry: entry.name)


def require_file(path: Path, found: os.stat_result) -> None:
    """Raise DataError where reading may never end: a pipe, a socket, a device; an image larger than images are."""
    if not (S_ISREG(found.st_mode) or S_ISDIR(found.st_mode)):
        raise DataError(f"{path}: a pipe, a socket or a device, and no file", hint="remove it")
    if found.st_size > MAX_BYTES and path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path}: {found.st_size:,} bytes are no image", hint="replace or remove the file")


@dataclass(frozen=True, slots=True)
class Files:
    """Images as files; an `Images`.

    Every mode is converted to RGB. The EXIF orientation is left unapplied, as torchvision's ImageFolder does, so that
    published numbers compare.
    """

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 [H, W, 3], writable.

        Raises: DataError naming the file when it cannot be decoded.
        """
        path = self.paths[index]
        try:
            require_file(path, path.stat())
            bytes_B = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(f"{path}: not a readable image: {error}", hint="replace or remove the file") from error
        return decode(bytes_B, str(path))
