import csv
import gzip
from pathlib import Path

import numpy as np

from leoclr.data import digits


def test_images_are_rows_of_the_packages_file_scaled_to_bytes() -> None:
    with gzip.open(digits._path(), "rt", newline="") as stream:
        rows = [[int(float(value)) for value in row] for row in csv.reader(stream)]
    theirs = {bytes(round(value * 255 / 16) for value in pixels): label for *pixels, label in rows}
    for split in digits.load(Path()).splits.values():
        for image_HWC, label in zip(split.images.images_NHWC, split.labels.tolist(), strict=True):
            assert theirs[image_HWC[..., 0].tobytes()] == label


def test_sizes_and_range() -> None:
    data = digits.load(Path())
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()} == {
        "train": [120] * 10,
        "test": [50] * 10,
    }
    images_NHWC = data.splits["train"].images.images_NHWC
    assert images_NHWC.shape == (1200, 8, 8, 3)
    assert (images_NHWC.min(), images_NHWC.max()) == (0, 255)
