"""Bytes of an image file to pixels: a JPEG by torchvision's decoder, everything else by Pillow.

Both decoders are libjpeg-turbo with the same settings, so their pixels are equal to the bit, on damaged data too, and
torchvision's hands over the array that a crop wants without a copy. What is an image, of which kind, and why one is
refused, Pillow alone says: it reads the head of every file, and decodes what the other refuses. So nothing that a
caller sees depends on which one ran.

A process that has not imported torch (a check, a plan) uses Pillow: the import costs more than it saves there. Neither
this nor the content's kind is told by a file's name.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
"""What Pillow is asked to read, by content: the kinds of `files.SUFFIXES`, and GIF, which Oxford-IIIT Pets calls .jpg.

Of the forty others that it knows, one starts a program on what the file holds: EPS, Ghostscript.
"""


def decode(data: bytes | memoryview | Pixels, name: str) -> Pixels:
    """Return the image that the bytes `data` hold as uint8 [H, W, 3], writable; any mode is converted to RGB.

    The EXIF orientation is left unapplied. An array of bytes is not changed; `name` is what an error calls the image.

    Raises: DataError when it cannot be decoded, or holds more pixels than Pillow takes for a decompression bomb.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        bytes_B = np.frombuffer(data, np.uint8)
        with Image.open(io.BytesIO(bytes_B.data), formats=FORMATS) as image:
            pixels_HWC = _decode_jpeg(bytes_B) if _is_plain_jpeg(image) else None
            return np.array(image.convert("RGB")) if pixels_HWC is None else pixels_HWC
    except UnidentifiedImageError as error:  # its own words hold an address in memory
        raise _refused(name, "no known image format") from error
    # What Pillow's decoders raise on damaged data: OSError, SyntaxError for PNG.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _refused(name, str(error)) from error


def _refused(name: str, reason: str) -> DataError:
    return DataError(f"{name}: not a readable image: {reason}", hint="replace or remove the file")


def _is_plain_jpeg(image: Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")  # MPO: several JPEGs, of which both read one


def _decode_jpeg(bytes_B: Pixels) -> Pixels | None:
    """Return the pixels, or nothing where the decoder is not there or refuses the data."""
    decoder = _jpeg_decoder() if "torch" in sys.modules else None
    if decoder is None:
        return None
    try:
        return decoder(bytes_B if bytes_B.flags.writeable else bytes_B.copy())  # torch warns of what is read-only
    except RuntimeError:
        return None


@functools.cache
def _jpeg_decoder() -> Callable[[Pixels], Pixels] | None:
    """Return torchvision's decoder, or nothing where its package holds none.

    Its library is loaded without the package: that imports torch's compiler, which takes seconds in each process that
    loads images. The package's own function warns that it goes away one day; then Pillow decodes.
    """
    import torch

    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    libraries = [path for folder in folders or () for path in Path(folder).glob("image*.so")]  # named by its version
    try:
        torch.ops.load_library(str(libraries[0]))
    except (IndexError, OSError):
        return None
    rgb = 3  # torchvision/io/image.py, ImageReadMode.RGB
    return lambda bytes_B: torch.ops.image.decode_jpeg(torch.from_numpy(bytes_B), rgb, False).permute(1, 2, 0).numpy()
