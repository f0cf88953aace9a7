"""Oxford-IIIT Pets: 3,680 training and 3,669 test images of 37 breeds.

    oxford-iiit-pet/annotations/{trainval,test}.txt      oxford-iiit-pet/images/<Breed>_<number>.jpg

A line of a list is `Abyssinian_100 1 1 1`: image, class from 1, cat or dog, number of the breed. Papers report the mean
of the classes' accuracies. Source: Parkhi et al., CVPR 2012; https://www.robots.ox.ac.uk/~vgg/data/pets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leoclr.data import imagenet, layout
from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree

VALID_PER_CLASS = 20  # BYOL, arXiv:2006.07733, table 10: 2,940 train, 740 valid = 20 of each of the 37 classes
VALID_SIZE = 740
RULE = "pets 1: trainval is train, test is test"
_LISTS = {"train": "trainval.txt", "test": "test.txt"}
_HINT = "expected annotations/trainval.txt, annotations/test.txt and images/*.jpg of its two archives"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of lists, listed images and split rule; the first time it reads 800 MB.

    Raises: DataError naming what is missing.
    """
    base = _base(root)
    listed = [base / "images" / f"{name}.jpg" for split in _LISTS for name, _ in _read(base, split)]
    return digest_tree(base, RULE, files=[*(base / "annotations" / name for name in _LISTS.values()), *listed])


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read. Raises: DataError naming what is missing or wrong."""
    base = _base(root)
    rows = {split: _read(base, split) for split in _LISTS}
    breeds = {label: name.rpartition("_")[0].replace("_", " ").title() for name, label in rows["train"]}
    if sorted(breeds) != list(range(1, len(breeds) + 1)) or not {label for _, label in rows["test"]} <= set(breeds):
        raise DataError(f"{base / 'annotations'}: classes are not numbered from 1 in both lists alike", hint=_HINT)
    splits = {}
    for split, source in _LISTS.items():
        names = [f"{name}.jpg" for name, _ in rows[split]]
        images = layout.listed(base / "images", names, base / "annotations" / source, _HINT)
        splits[split] = Split(images, np.array([label for _, label in rows[split]], np.int64) - 1)
    return DataSet(
        "pets",
        tuple(breeds[label] for label in sorted(breeds)),
        splits,
        imagenet.MEAN,
        imagenet.STD,
        metric="mean_per_class",  # SimCLR, arXiv:2002.05709, B.8
        valid_size=VALID_SIZE,
        valid_per_class=VALID_PER_CLASS,
    )


def _base(root: Path) -> Path:
    return layout.find(root, "oxford-iiit-pet", holds="annotations/trainval.txt", hint=_HINT)


def _read(base: Path, split: str) -> list[tuple[str, int]]:
    """Return (name without suffix, 1-based class) of every image of a split."""
    path = base / "annotations" / _LISTS[split]
    rows = [line.split() for line in layout.read_lines(path, _HINT)]
    wrong = next((row for row in rows if len(row) != 4 or not row[1].isdecimal()), None)
    if wrong is not None or not rows:
        raise DataError(f"{path}: {wrong or 'no line'} is not `name class species breed`", hint=_HINT)
    return [(layout.safe(name, path), int(label)) for name, label, _, _ in rows]
