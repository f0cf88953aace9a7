"""STL-10: 5,000 training, 8,000 test and 100,000 unlabeled images, 96 x 96, 10 classes, in their binary files.

    stl10_binary/{train_X,train_y,test_X,test_y,unlabeled_X}.bin

An image is 3 channels, each column by column; a label is one byte, 1 to 10. The unlabeled images are a split of their
own and carry UNLABELED, so that no evaluation can take them for a class. fold_indices.txt (ten folds of 1,000 training
images) is not used: no paper of our tables does. Source: Coates et al. 2011; https://cs.stanford.edu/~acoates/stl10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data import layout
from leoclr.data.contract import UNLABELED, DataError, DataSet, Split, Stack
from leoclr.data.digest_cache import digest_tree

SIDE = 96  # pixels
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")  # class_names.txt
# ImageNet's, where its images come from. vturrisi/solo-learn normalizes them with CIFAR-10's: (0.4914, 0.4823, 0.4466),
# (0.247, 0.243, 0.261); the LeOCLR paper does not say.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RULE = "stl10 1: the files' own splits"
_HINT = "expected the folder stl10_binary of https://cs.stanford.edu/~acoates/stl10"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the files' bytes and of the split rule; the first time it reads 3 GB.

    Raises: DataError when a file is missing.
    """
    base = _base(root)
    names = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"]
    unlabeled = ["unlabeled_X.bin"] if (base / "unlabeled_X.bin").is_file() else []
    return digest_tree(base, RULE, files=[base / name for name in names + unlabeled])


def load(root: Path) -> DataSet:
    """Return the splits, `unlabeled` if its file is there; pixels come into memory when they are read.

    Raises: DataError naming the file that is missing or damaged.
    """
    base = _base(root)
    splits = {name: _labeled(base, name) for name in ("train", "test")}
    if (base / "unlabeled_X.bin").is_file():
        images = _images(base / "unlabeled_X.bin")
        splits["unlabeled"] = Split(images, np.full(len(images), UNLABELED, np.int64))
    return DataSet("stl10", CLASSES, splits, MEAN, STD)


def _base(root: Path) -> Path:
    return layout.find(root, "stl10_binary", holds="train_X.bin", hint=_HINT)


def _labeled(base: Path, name: str) -> Split:
    images, path = _images(base / f"{name}_X.bin"), base / f"{name}_y.bin"
    labels = _map(path).astype(np.int64)
    if len(labels) != len(images) or labels.min() < 1 or labels.max() > len(CLASSES):
        raise DataError(f"{path}: not one label from 1 to {len(CLASSES)} for each image", hint=_HINT)
    return Split(images, labels - 1)


def _images(path: Path) -> Stack:
    content = _map(path)
    if len(content) % (3 * SIDE * SIDE):
        raise DataError(f"{path}: {len(content)} bytes, no whole number of images", hint=_HINT)
    return Stack(content.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1))  # stored [N, C, W, H]


def _map(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file, read when they are touched; writing to them changes a copy, never the file."""
    try:
        return np.asarray(np.memmap(path, np.uint8, mode="c"))
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise DataError(f"{path}: cannot be read: {error}", hint=_HINT) from error
