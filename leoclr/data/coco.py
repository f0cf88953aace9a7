"""COCO 2017, detection: 118,287 training images (train2017), 5,000 test images (val2017), 80 classes.

    coco/annotations/instances_{train,val}2017.json      coco/{train,val}2017/*.jpg, or below coco/images

Splits are in the order of image numbers. Category numbers run from 1 to 90 with holes; ours count the 80 in their
order. Boxes come as left, top, width and height in pixels, 0-based, so x2 = left + width is exclusive already. Training
boxes without width or height, which no detector can learn, are left out; test boxes all stay, as the official score
counts them. Source: Lin et al. 2014, arXiv:1405.0312; https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leoclr.data import imagenet, layout
from leoclr.data.contract import Boxes, DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree

PARTS = {"train": "train2017", "test": "val2017"}
RULE = "coco 1: train2017 is train, val2017 is test; images count by name and size"
_HINT = "expected annotations/instances_train2017.json and instances_val2017.json, train2017/*.jpg and val2017/*.jpg"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of both annotation files, of the images by name and size, and of the split rule.

    The images' 19 GB are not read; `digest_cache` says when they are listed anew. Raises: DataError when a part is
    missing.
    """
    base = _base(root)
    files = [base / "annotations" / f"instances_{part}.json" for part in PARTS.values()]
    return digest_tree(base, RULE, files=files, folders=[_images(base, part) for part in PARTS.values()])


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read. Raises: DataError naming what is missing or wrong."""
    base = _base(root)
    classes: dict[str, tuple[str, ...]] = {}
    splits = {}
    for split, part in PARTS.items():
        source = base / "annotations" / f"instances_{part}.json"
        try:
            classes[split], names, scenes = _read(source, degenerate=split == "test")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{source}: not a readable file of instances: {error!r}", hint=_HINT) from error
        images = layout.listed(_images(base, part), names, source, _HINT)
        splits[split] = Split(images, np.empty(0, np.int64), scenes)
    if classes["train"] != classes["test"]:
        raise DataError(f"{base / 'annotations'}: the two files differ in categories", hint=_HINT)
    return DataSet("coco", classes["train"], splits, imagenet.MEAN, imagenet.STD)


def _base(root: Path) -> Path:
    return layout.find(root, "coco", holds="annotations/instances_train2017.json", hint=_HINT)


def _images(base: Path, part: str) -> Path:
    return next((folder for folder in (base / part, base / "images" / part) if folder.is_dir()), base / part)


def _read(source: Path, *, degenerate: bool) -> tuple[tuple[str, ...], list[str], tuple[Boxes, ...]]:
    """Return classes, names of images, and their objects; `degenerate` keeps boxes without extent."""
    content = json.loads(source.read_bytes())
    classes = {int(one["id"]): str(one["name"]) for one in content["categories"]}
    labels = {number: label for label, number in enumerate(sorted(classes), start=1)}
    images = sorted((int(one["id"]), str(one["file_name"])) for one in content["images"])
    objects: dict[int, list[Mapping[str, Any]]] = {number: [] for number, _ in images}
    for one in content["annotations"]:
        if degenerate or min(one["bbox"][2:]) > 0:
            objects[one["image_id"]].append(one)
    scenes = tuple(_boxes(objects[number], labels) for number, _ in images)
    return tuple(classes[number] for number in labels), [name for _, name in images], scenes


def _boxes(objects: Sequence[Mapping[str, Any]], labels: Mapping[int, int]) -> Boxes:
    corners = np.array([one["bbox"] for one in objects], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Boxes(
        boxes=corners.astype(np.float32),
        labels=np.array([labels[one["category_id"]] for one in objects], np.int64),
        difficult=np.zeros(len(objects), np.bool_),
        crowd=np.array([bool(one["iscrowd"]) for one in objects], np.bool_),
        area=np.array([one["area"] for one in objects], np.float64),
    )
