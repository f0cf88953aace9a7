"""ImageNet-1K (ILSVRC 2012): a folder a class, 1,281,167 training images, the 50,000 validation images as test split.

    root/train/<wnid>/*.JPEG      root/val/<wnid>/*.JPEG

That is what torchvision's ImageNet and every recipe reads; `train` and `val` may be links. Classes are the folders'
names, sorted, which is the published order. Source: Russakovsky et al. 2015, arXiv:1409.0575.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leoclr.data import label_lists, layout
from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import Files, images_in

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # pytorch/examples, imagenet/main.py
VALID_SIZE = 10_009  # BYOL, arXiv:2006.07733, C.1: the last 10,009 training images choose the rate of the probe
RULE = "imagenet 1: train is train, val is test; images count by name and size"
HINT = (
    "expected train/<wnid>/*.JPEG and val/<wnid>/*.JPEG: unpack ILSVRC2012_img_train.tar and its 1,000 inner archives "
    "into train/, and sort ILSVRC2012_img_val.tar into class folders below val/"
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of every image's path and size, and of the split rule; the bytes are not read.

    150 GB take hours to hash over a network; a name with its size moves whenever a copy is cut short or recompressed.
    `digest_cache` says what is listed anew and when.

    Raises: DataError when `train` or `val` is missing or has no class folders.
    """
    base = find(root)
    return digest_tree(
        base,
        RULE + label_lists.signature(root),
        folders=[base / split / name for split in ("train", "val") for name in class_names(base, split)],
    )


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read, not before.

    Raises: DataError when a split is missing, or the two differ in classes.
    """
    base = find(root)
    classes = class_names(base, "train")
    odd = sorted(set(classes) ^ set(class_names(base, "val")))
    if odd:
        raise DataError(f"{base}: train and val differ in {len(odd)} classes, such as {odd[0]}", hint=HINT)
    splits = {"train": read_split(base / "train", classes), "test": read_split(base / "val", classes)}
    return DataSet("imagenet", classes, splits, MEAN, STD, valid_size=VALID_SIZE)


def find(root: Path) -> Path:
    """Return the folder that holds `train`. Raises: DataError when there is none."""
    return layout.find(root, "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", holds="train", hint=HINT)


def class_names(base: Path, split: str) -> tuple[str, ...]:
    """Return the names of the class folders of base/<split>, sorted. Raises: DataError when there are none."""
    try:
        with os.scandir(base / split) as entries:
            names = sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())
    except OSError as error:
        raise DataError(f"{base / split}: no such folder", hint=HINT) from error
    if not names:
        raise DataError(f"{base / split}: there are no class folders", hint=HINT)
    return tuple(names)


def read_split(folder: Path, classes: Sequence[str]) -> Split:
    """Return the images of the class folders `classes`, class k with label k. Raises: DataError at an empty one."""
    found = [[entry.path for entry in images_in(folder / name)] for name in classes]
    empty = next((name for name, paths in zip(classes, found, strict=True) if not paths), None)
    if empty is not None:
        raise DataError(f"{folder / empty}: there are no images", hint=HINT)
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(paths) for paths in found])
    return Split(Files(tuple(Path(path) for paths in found for path in paths)), labels)
