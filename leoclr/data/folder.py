"""A folder of class folders: the user's own images, decoded when asked for.

    root/train/<class>/*.jpg   root/test/<class>/*.jpg      with splits; `val` is a third split, or the test set
    root/<class>/*.jpg                                      without: a fixed 80 / 20 split of every class

Classes are the folders' names, sorted; images are found at any depth below them; other files and names that begin with
a dot are passed over. Mean and standard deviation are ImageNet's: those that every published recipe normalizes with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leoclr.data import label_lists
from leoclr.data.contract import UNLABELED, DataError, DataSet, Split, draw_per_class
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import SUFFIXES, Files, require_file

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet; pytorch/examples, imagenet/main.py
TRAIN_SHARE = 0.8  # of every class, where the folder has no splits; rounded, and at least one image on either side
_SPLIT_SEED = 80
SPLIT_RULE = (
    f"folder split 2: own splits, else {TRAIN_SHARE} of each class train, seed {_SPLIT_SEED}; unlabeled is no class"
)
_UNLABELED = "unlabeled"
_HINT = "expected root/train/<class>/*.jpg and root/test/<class>/*.jpg, or root/<class>/*.jpg"


def digest(root: Path) -> str:
    """Return the sha256 (hex) of every image's path and content and of the split rule.

    The first call reads all images; later ones only those whose size or time of change moved, see `digest_cache`.

    Raises: DataError when the folder is missing, empty, or links out of itself.
    """
    base = _base(root)
    images = list(_walk(base, base))
    if not images:
        raise DataError(f"{base}: there are no images", hint=_HINT)
    return digest_tree(base, SPLIT_RULE + label_lists.signature(root), files=images)


def load(root: Path) -> DataSet:
    """Return the splits of a folder; images are opened when they are read, not before.

    Raises: DataError when the folder is missing, empty, links out of itself, or its splits differ in classes.
    """
    base = _base(root)
    named = {name: base / name for name in ("train", "test", "val") if (base / name).is_dir()}
    if "train" not in named:
        classes, split = _read_classes(base, base)
        return DataSet("folder", classes, {**_divide(split, classes), **_read_unlabeled(base)}, MEAN, STD)
    if len(named) == 1:
        raise DataError(f"{base}: there is a folder train, but neither test nor val", hint=_HINT)
    if "test" not in named:
        named["test"] = named.pop("val")
    read = {name: _read_classes(base, folder) for name, folder in named.items()}
    classes = read["train"][0]
    for name, (others, _) in read.items():
        if others != classes:
            odd = sorted(set(others) ^ set(classes))
            raise DataError(f"{named[name]}: not the classes of train, they differ in {', '.join(odd)}", hint=_HINT)
    splits = {name: split for name, (_, split) in read.items()}
    return DataSet("folder", classes, {**splits, **_read_unlabeled(base)}, MEAN, STD)


def _base(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint=_HINT)
    return root.resolve()


def _read_classes(base: Path, folder: Path) -> tuple[tuple[str, ...], Split]:
    found = {
        path.name: list(_walk(base, path))
        for path in _entries(base, folder)
        if path.is_dir() and path != base / _UNLABELED
    }
    if not found:
        raise DataError(f"{folder}: there are no class folders", hint=_HINT)
    empty = next((name for name, paths in found.items() if not paths), None)
    if empty is not None:
        raise DataError(f"{folder / empty}: there are no images", hint=f"known are {', '.join(SUFFIXES)}")
    paths = tuple(path for members in found.values() for path in members)
    labels = np.repeat(np.arange(len(found)), [len(members) for members in found.values()])
    return tuple(found), Split(Files(paths), labels.astype(np.int64))


def _read_unlabeled(base: Path) -> dict[str, Split]:
    """Return the split of images without a class, if there is one."""
    if not (base / _UNLABELED).is_dir():
        return {}
    paths = tuple(_walk(base, base / _UNLABELED))
    if not paths:
        raise DataError(f"{base / _UNLABELED}: there are no images", hint=f"known are {', '.join(SUFFIXES)}")
    return {_UNLABELED: Split(Files(paths), np.full(len(paths), UNLABELED, np.int64))}


def _divide(split: Split, classes: tuple[str, ...]) -> dict[str, Split]:
    counts = np.bincount(split.labels)
    if counts.min() < 2:
        raise DataError(f"class {classes[int(counts.argmin())]} has one image: none to test on", hint=_HINT)
    per_class = {
        label: min(max(round(TRAIN_SHARE * count), 1), count - 1) for label, count in enumerate(counts.tolist())
    }
    train, test = draw_per_class(split.labels, per_class, seed=_SPLIT_SEED)
    assert isinstance(split.images, Files)
    paths = split.images.paths
    parts = {"train": train, "test": test}
    return {name: Split(Files(tuple(paths[i] for i in part)), split.labels[part]) for name, part in parts.items()}


def _walk(base: Path, folder: Path) -> Iterator[Path]:
    """Yield the images at any depth below `folder`, sorted by name, folder by folder."""
    for path in _entries(base, folder):
        if path.is_dir():
            yield from _walk(base, path)
        elif path.suffix.lower() in SUFFIXES:
            if not path.is_file() and path.exists():
                require_file(path, path.stat())
            yield path


def _entries(base: Path, folder: Path) -> list[Path]:
    """Return what lies in `folder`, sorted. Raises: DataError at a link out of `base` or to a folder."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink():
            try:
                target = Path(entry.path).resolve()
            except (OSError, RuntimeError):  # the latter up to Python 3.12
                raise DataError(f"{entry.path}: links to itself", hint="copy or move the images in") from None
            if not target.is_relative_to(base):
                raise DataError(
                    f"{entry.path}: links to {target}, outside of {base}", hint="copy or move the images in"
                )
            if target.is_dir():  # it would count images twice, or for ever
                raise DataError(f"{entry.path}: links to the folder {target}", hint="copy or move the images in")
    return [Path(entry.path) for entry in found]
