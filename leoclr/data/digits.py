"""Digits: 1,797 real 8x8 handwritten digits that come inside scikit-learn; other writers than MNIST's.

Splits: 1,200 training and 500 test images, 120 and 50 a class. The other 97 images are in neither: classes have 174 to
183 images, and both splits are class-balanced. Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI, 1998, its test part as in scikit-learn, sklearn/datasets/descr/digits.rst.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leoclr.data.contract import DataSet, draw_per_class
from leoclr.data.packaged import digest_of, gray_data_set, locate, read_table

SIDE = 8  # pixels
TRAIN_PER_CLASS, TEST_PER_CLASS = 120, 50
_LEVELS = 16  # the file's white; its black is 0
_SPLIT_SEED = 1797
SPLIT_RULE = f"digits split 1: {TRAIN_PER_CLASS} a class train, then {TEST_PER_CLASS} a class test, seed {_SPLIT_SEED}"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the images and of the split rule; `root` is ignored.

    Raises: DataError when scikit-learn is not installed.
    """
    return digest_of(_path(), SPLIT_RULE)


def load(root: Path) -> DataSet:
    """Return 1,200 training and 500 test digits, gray levels 0..16 scaled to 0..255; `root` is ignored.

    Raises: DataError when scikit-learn is not installed or its file is damaged.
    """
    table = read_table(_path(), columns=SIDE * SIDE + 1)
    gray_NHW = np.rint(table[:, :-1].reshape(-1, SIDE, SIDE) * (255 / _LEVELS)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    train, rest = draw_per_class(labels, TRAIN_PER_CLASS, seed=_SPLIT_SEED)
    drawn, _ = draw_per_class(labels[rest], TEST_PER_CLASS, seed=_SPLIT_SEED)
    return gray_data_set("digits", gray_NHW, labels, {"train": train, "test": rest[drawn]})


def _path() -> Path:
    return locate("sklearn", "datasets/data/digits.csv.gz", distribution="scikit-learn")
