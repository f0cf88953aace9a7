"""Digit scenes: a small detection set of real digits at random scales and places, in the on-disk layout of VOC.

1 to 4 digits of MNIST-5k, 16 to 40 pixels a side, lie on each black 96 x 96 canvas; boxes enclose their ink. Training
scenes show training digits, test scenes test digits. The set is written once into the cache folder, under a name that
holds its digest, and read back through the VOC reader.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data import mnist5k, voc
from leoclr.data.contract import Boxes, DataError, DataSet, Split, Stack
from leoclr.data.packaged import channel_statistics

CANVAS = 96  # side of a scene, pixels
SCENES = {"train": 200, "test": 100}
DIGITS = (1, 4)  # fewest and most in a scene
SIDES = (16, 40)  # smallest and largest side of a digit's 28 x 28 image in a scene, pixels
OVERLAP = 0.1  # most of the smaller of two boxes that they may share
INK = 32  # of 255: a pixel at least this bright belongs to its digit's box
CLASSES = tuple("0123456789")
_PLACES = 50  # tries to find room for a digit before the scene goes without it
_SEED = 96
GENERATOR = (
    f"digit_scenes generator 1: canvas {CANVAS}, scenes {SCENES}, digits {DIGITS}, sides {SIDES}, overlap {OVERLAP}, "
    f"ink {INK}, places {_PLACES}, seed {_SEED}"
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the source digits and of the generator; writes nothing, ignores `root`.

    Raises: DataError when the source digits are missing.
    """
    return hashlib.sha256(f"{GENERATOR}\n{mnist5k.digest(root)}".encode()).hexdigest()


def load(root: Path) -> DataSet:
    """Return the scenes, written to a folder inside `root` by whoever comes first.

    Raises: DataError when the source digits are missing, `root` cannot be written, or the written set was damaged.
    """
    folder = root / f"digit_scenes-{digest(root)[:12]}"
    if not folder.is_dir():
        _publish(folder)
    read = {split: _read(folder, split) for split in SCENES}
    splits = {split: Split(images, np.empty(0, np.int64), scenes) for split, (images, scenes) in read.items()}
    mean, std = channel_statistics(read["train"][0].images_NHWC)
    return DataSet("digit_scenes", CLASSES, splits, mean, std)


def draw_scene(
    digits_NHW: NDArray[np.uint8], labels: NDArray[np.int64], *, seed: tuple[int, ...]
) -> tuple[NDArray[np.uint8], Boxes]:
    """Return one gray canvas [CANVAS, CANVAS] and its objects, a function of the digits and `seed` alone."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    drawn: list[int] = []
    for _ in range(rng.integers(DIGITS[0], DIGITS[1], endpoint=True)):
        index, side = int(rng.integers(len(digits_NHW))), int(rng.integers(*SIDES, endpoint=True))
        digit = _resize(digits_NHW[index], side)
        ink = _ink_box(digit)
        for left, top in rng.integers(CANVAS - side, size=(_PLACES, 2), endpoint=True).tolist():
            box = (left + ink[0], top + ink[1], left + ink[2], top + ink[3])
            if all(_shared(box, other) <= OVERLAP for other in boxes):
                area = canvas[top : top + side, left : left + side]
                np.maximum(area, digit, out=area)
                boxes.append(box)
                drawn.append(int(labels[index]) + 1)
                break
    count = len(boxes)
    return canvas, Boxes(np.array(boxes, np.float32), np.array(drawn, np.int64), np.zeros(count, np.bool_))


def _publish(folder: Path) -> None:
    """Write the set beside `folder` and rename it into place; of several writers the first wins, the others discard."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A dotted name: a writer that is killed leaves a folder that no reader takes for a data set.
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"{folder.parent}: the scenes cannot be written: {error}", hint="name a writable folder"
        ) from error
    try:
        _write(draft)
        draft.chmod(0o755)  # mkdtemp's folder is its owner's alone; a cache may be shared
        draft.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # not the lost race, where the winner's folder, equal to ours, stays
            raise DataError(f"{folder}: the scenes cannot be written: {error}", hint="is the disk full?") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(folder: Path) -> None:
    from PIL import Image

    images, annotations, lists = folder / "JPEGImages", folder / "Annotations", folder / "ImageSets" / "Main"
    for part in (images, annotations, lists):
        part.mkdir(parents=True)
    source = mnist5k.load(folder)
    for number, (split, count) in enumerate(SCENES.items()):
        digits = source.splits[split]
        assert isinstance(digits.images, Stack)
        names = [f"{split}_{scene:04d}" for scene in range(count)]
        for scene, name in enumerate(names):
            canvas, boxes = draw_scene(digits.images.images_NHWC[..., 0], digits.labels, seed=(_SEED, number, scene))
            Image.fromarray(canvas).convert("RGB").save(images / f"{name}.png")
            text = voc.annotation(f"{name}.png", canvas.shape, boxes, CLASSES)
            (annotations / f"{name}.xml").write_text(text, encoding="utf-8")
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _read(folder: Path, split: str) -> tuple[Stack, tuple[Boxes, ...]]:
    hint = f"delete {folder}: it is written again"
    try:
        files, scenes = voc.read_split(folder, split, CLASSES)
        images = [files.read(index) for index in range(len(files))]
    except DataError as error:
        raise DataError(str(error), hint=hint) from error
    if len(images) != SCENES[split] or any(image.shape != (CANVAS, CANVAS, 3) for image in images):
        raise DataError(f"{folder}: not the {SCENES[split]} {split} scenes that were written", hint=hint)
    return Stack(np.stack(images)), scenes


def _resize(digit_HW: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    from PIL import Image

    # Pillow computes in integers: the same pixels on every machine, which a float product would not promise.
    return np.asarray(Image.fromarray(digit_HW).resize((side, side), Image.Resampling.BILINEAR))


def _ink_box(digit_HW: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of the pixels that are ink, the last two exclusive."""
    rows, columns = (np.flatnonzero((digit_HW >= INK).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _shared(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return which part of the smaller box the two have in common."""
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    return width * height / min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other))
