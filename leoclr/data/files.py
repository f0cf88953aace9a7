"""Image files, decoded when asked for. Pillow is imported by the first read, so that a digest needs numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, in any case of letters: torchvision/datasets/folder.py, IMG_EXTENSIONS."""


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
        from PIL import Image

        path = self.paths[index]
        try:
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
        # What Pillow's decoders raise on damaged data: OSError (UnidentifiedImageError is one), SyntaxError for PNG.
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: not a readable image: {error}", hint="replace or remove the file") from error
