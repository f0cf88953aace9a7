"""Stanford Cars: 8,144 training and 8,041 test images of 196 models.

    stanford_cars/devkit/{cars_train_annos,cars_meta}.mat      stanford_cars/cars_train/*.jpg
    stanford_cars/cars_test_annos_withlabels.mat               stanford_cars/cars_test/*.jpg

torchvision reads this layout; `root` may also be the folder itself, and the labeled list may lie in `devkit`. Labels
are 1 to 196 in the files. Source: Krause et al., 3D Object Representations for Fine-Grained Categorization, 3dRR 2013.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leoclr.data import imagenet, layout, matlab
from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import images_in

VALID_SIZE = 1650  # BYOL, arXiv:2006.07733, table 10: 6,494 train, 1,650 valid
RULE = "cars 1: the lists' own splits"
_HINT = (
    "expected devkit/cars_train_annos.mat, devkit/cars_meta.mat, cars_test_annos_withlabels.mat, cars_train/*.jpg and "
    "cars_test/*.jpg, as Stanford Cars was published"
)
_IMAGES = {"train": "cars_train", "test": "cars_test"}


def digest(root: Path) -> str:
    """Return the sha256 (hex) of lists, images and split rule; the first time it reads 2 GB.

    Raises: DataError when the lists or the folders of images are missing.
    """
    base = _base(root)
    files = [*_lists(base).values(), _meta(base)]
    for folder in _IMAGES.values():
        try:
            files += [base / folder / entry.name for entry in images_in(base / folder)]
        except OSError as error:
            raise DataError(f"{base / folder}: no such folder of images", hint=_HINT) from error
    return digest_tree(base, RULE, files=files)


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read. Raises: DataError naming what is missing or damaged."""
    base = _base(root)
    names = matlab.read(_meta(base), "class_names", _HINT)
    if not isinstance(names, list):
        raise DataError(f"{_meta(base)}: its class_names are no list", hint=_HINT)
    classes = tuple(map(str, names))
    splits = {split: _read(base, split, path, len(classes)) for split, path in _lists(base).items()}
    return DataSet("cars", classes, splits, imagenet.MEAN, imagenet.STD, valid_size=VALID_SIZE)


def _base(root: Path) -> Path:
    return layout.find(root, "stanford_cars", holds="devkit/cars_train_annos.mat", hint=_HINT)


def _meta(base: Path) -> Path:
    return base / "devkit" / "cars_meta.mat"


def _lists(base: Path) -> dict[str, Path]:
    name = "cars_test_annos_withlabels.mat"
    test = next((path for path in (base / name, base / "devkit" / name) if path.is_file()), None)
    if test is None:  # devkit/cars_test_annos.mat has the boxes of the test images, and not their classes
        raise DataError(f"{base}: there is no {name}, so the test images have no labels", hint=_HINT)
    return {"train": base / "devkit" / "cars_train_annos.mat", "test": test}


def _read(base: Path, split: str, path: Path, classes: int) -> Split:
    rows = matlab.read(path, "annotations", _HINT)
    try:
        pairs = [_row(row) for row in rows] if isinstance(rows, list) else []
    except ValueError as error:
        raise DataError(f"{path}: its annotations have no fname and class: {error}", hint=_HINT) from error
    names, labels = [name for name, _ in pairs], [label for _, label in pairs]
    if not labels or min(labels) < 1 or max(labels) > classes:
        raise DataError(f"{path}: labels are not from 1 to {classes}", hint=_HINT)
    return Split(layout.listed(base / _IMAGES[split], names, path, _HINT), np.array(labels, np.int64) - 1)


def _row(row: object) -> tuple[str, int]:
    """Return name and class of an image. Raises: ValueError."""
    found = row if isinstance(row, dict) else {}
    name, label = found.get("fname"), found.get("class")
    if not isinstance(name, str) or not isinstance(label, int | float) or label != label // 1:
        raise ValueError(f"a row is {row!r:.80}")
    return name, int(label)
