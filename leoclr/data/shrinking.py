"""Images made small for a packed store.

The shorter side is cut down to a given number of pixels as torchvision's Resize does it to a PIL image (bilinear,
antialiased, the longer side rounded down), so that a test image of a raw store is to the bit what the published
transform, Resize(256) and CenterCrop(224), makes of the original. Nothing is enlarged.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leoclr.data.contract import DataError
from leoclr.data.decoding import decode
from leoclr.data.manifest import Form

_JPEG = b"\xff\xd8\xff"  # how every JPEG file begins
_LONGEST_JPEG = 65_500  # pixels; libjpeg's JPEG_MAX_DIMENSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinking:
    """How images are made small."""

    form: Form = "jpeg"  # ImageNet at 256: about 35 GB instead of 335 GB of pixels
    side: int = 256  # pixels of the shorter side; pytorch/examples, imagenet/main.py: Resize(256) before a crop of 224
    quality: int = 90  # of JPEG; libffcv/ffcv-imagenet, README.md: `./write_imagenet.sh 500 0.50 90`

    def __post_init__(self) -> None:
        if self.form not in ("jpeg", "raw"):
            raise ValueError(f"form: {self.form!r} is neither jpeg nor raw")
        if self.side < 1:
            raise ValueError(f"side: {self.side} is not positive")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality: {self.quality} is not from 1 to 95")


@dataclass(frozen=True, slots=True)
class Small:
    """One image as it is stored."""

    content: bytes
    height: int
    width: int


def shrink(content: bytes, name: str, how: Shrinking) -> Small:
    """Return the image that the bytes `content` hold as it is stored; `name` is what an error calls it.

    A JPEG file that is small enough enters a jpeg store byte for byte; images of other formats become JPEG there.

    Raises: DataError when it cannot be decoded, or is too long for a JPEG.
    """
    from PIL import Image

    image_HWC = decode(content, name)
    height, width = image_HWC.shape[:2]
    is_small = min(height, width) <= how.side
    if is_small and how.form == "jpeg" and content.startswith(_JPEG):
        return Small(content, height, width)
    image = Image.fromarray(image_HWC)
    if not is_small:
        image = image.resize(_size(height, width, how.side), Image.Resampling.BILINEAR)
    if how.form == "raw":
        return Small(np.asarray(image).tobytes(), image.height, image.width)
    if max(image.size) > _LONGEST_JPEG:
        raise DataError(f"{name}: {max(image.size):,} pixels are too long for a JPEG", hint="form: raw")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=how.quality)
    return Small(buffer.getvalue(), image.height, image.width)


def shrink_files(paths: Sequence[Path], how: Shrinking) -> list[Small | str]:
    """Return each image as it is stored, or why it cannot be decoded.

    Raises: DataError when the system cannot read a file: that may pass, so it is no damaged image.
    """
    return [_shrink_file(path, how) for path in paths]


def _shrink_file(path: Path, how: Shrinking) -> Small | str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="is the data set whole?") from error
    try:
        return shrink(content, str(path), how)
    except DataError as error:
        return str(error)


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return width and height; torchvision/transforms/functional.py, _compute_resized_output_size."""
    longer = int(side * max(height, width) / min(height, width))
    return (longer, side) if height < width else (side, longer)
