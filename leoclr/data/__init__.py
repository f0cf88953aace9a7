"""Data sets: one file each, one line here. A module defines `digest(root)` and `load(root)`, see `contract`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from leoclr.data.corrupt import without_corrupt as without_corrupt

if TYPE_CHECKING:
    from leoclr.data.contract import DataModule

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


def module(name: str) -> DataModule:
    """Return the module of data set `name`, a key of `DATASETS`."""
    return importlib.import_module(DATASETS[name])
