import csv
import gzip
import itertools
from pathlib import Path

import numpy as np

from leoclr.data import mnist5k


def test_images_are_the_rows_of_the_packages_file() -> None:
    data = mnist5k.load(Path())
    ours = {
        image[..., 0].tobytes(): label
        for split in data.splits.values()
        for image, label in zip(split.images.images_NHWC, split.labels.tolist(), strict=True)
    }
    with gzip.open(mnist5k._path(), "rt", newline="") as stream:
        for row in itertools.islice(csv.reader(stream), 0, None, 40):  # every class: 500 rows each, in order
            *pixels, label = map(int, row)
            assert ours[bytes(pixels)] == label
    assert len(ours) == 5000


def test_sizes() -> None:
    data = mnist5k.load(Path())
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()} == {
        "train": [400] * 10,
        "test": [100] * 10,
    }
    assert data.splits["train"].images.read(0).shape == (28, 28, 3)
