"""Data sets: one file each, one line here. A module defines `digest(root)` and `load(root)`, see `contract`."""

from __future__ import annotations

import functools
import importlib

from leoclr.data.contract import DataModule
from leoclr.data.corrupt import without_corrupt as without_corrupt
from leoclr.data.packed import Either

DATASETS: dict[str, str] = {
    "mnist5k": "leoclr.data.mnist5k",
    "digits": "leoclr.data.digits",
    "digit_scenes": "leoclr.data.digit_scenes",
    "folder": "leoclr.data.folder",
    "imagenet": "leoclr.data.imagenet",
    "imagenet_subset": "leoclr.data.imagenet_subset",
    "cifar10": "leoclr.data.cifar10",
    "cifar100": "leoclr.data.cifar100",
    "stl10": "leoclr.data.stl10",
    "cars": "leoclr.data.cars",
    "birdsnap": "leoclr.data.birdsnap",
    "pets": "leoclr.data.pets",
    "voc0712": "leoclr.data.voc0712",
    "coco": "leoclr.data.coco",
}

WITH_BOXES = frozenset({"digit_scenes", "voc0712", "coco"})
"""Those whose images have boxes instead of one class each: for pre-training and detection alone."""


@functools.cache
def module(name: str) -> DataModule:
    """Return how to read data set `name`, a key of `DATASETS`: by its module, or from a packed store of it."""
    return Either(name, importlib.import_module(DATASETS[name]))
