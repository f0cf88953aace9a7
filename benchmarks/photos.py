"""Photos for timings, as JPEG files of ImageNet's size: varied pieces of the two that scikit-learn brings.

500 x 375 pixels and about 100 KB each, the same bytes each time for one version of Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 500, 375  # ImageNet's most frequent size
_QUALITY = 97  # JPEG's; it makes files of about the mean size of ImageNet's, 110 KB


def write_photos(root: Path, *, train: int, test: int = 2) -> None:
    """Write photos of one class as the data set `folder` wants them: root/train/photo and root/test/photo."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(pixels_HWC) for pixels_HWC in load_sample_images().images]
    for split, count in (("train", train), ("test", test)):
        folder = root / split / "photo"
        folder.mkdir(parents=True)
        for index in range(count):
            photo = _vary(originals[index % len(originals)], rng)
            photo.save(folder / f"{index:04}.jpg", quality=_QUALITY)


def _vary(original: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a piece of a photo, at least three quarters as wide, at another brightness, mirrored or not."""
    width = int(rng.integers(original.width * 3 // 4, original.height * WIDTH // HEIGHT))
    height = width * HEIGHT // WIDTH
    left, top = int(rng.integers(original.width - width + 1)), int(rng.integers(original.height - height + 1))
    piece = original.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    gain = rng.uniform(0.7, 1.3)
    piece = piece.point(lambda level: min(255, int(level * gain)))
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece


def small_photos(count: int, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return small photos, uint8 [count, side, side, 3]."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(pixels_HWC) for pixels_HWC in load_sample_images().images]
    pieces = [_vary(originals[index % len(originals)], rng).resize((side, side)) for index in range(count)]
    return np.stack([np.asarray(piece) for piece in pieces])
