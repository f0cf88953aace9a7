"""Image files, decoded when asked for; no decoder is imported before the first read, so a digest needs numpy alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataError
from leoclr.data.decoding import decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, in any case of letters: torchvision/datasets/folder.py, IMG_EXTENSIONS."""


def images_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return the images right inside `folder`, sorted by name; links are followed, dotted names passed over.

    Raises: OSError when it cannot be listed.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "."]
    return sorted((entry for entry in found if not entry.is_dir()), key=lambda entry: entry.name)


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
            bytes_B = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(f"{path}: not a readable image: {error}", hint="replace or remove the file") from error
        return decode(bytes_B, str(path))
