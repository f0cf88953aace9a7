"""A subset of ImageNet-1K by a list file: an ImageNet folder (see `imagenet`) with a file `subset.txt` in it.

The list holds, apart by white space, either classes or training images:

    n02869837 n01749939 ...           wnids: all images of these classes. ImageNet-100 is such a list: HobbitLong/CMC,
                                      imagenet100.txt (Tian et al. 2020, arXiv:1906.05849)
    n04235860_14959.JPEG ...          training images: these alone, and the test images of their classes. The lists of
                                      1 and 10 % are such: google-research/simclr, imagenet_subsets/1percent.txt

`train` and `val` may be links to those of a whole ImageNet, so that a subset costs one file. Labels count the classes
that the list names, sorted. Nothing depends on the order of the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from leoclr.data import imagenet, label_lists, layout
from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import SUFFIXES, Files

LIST = "subset.txt"
RULE = "imagenet_subset 1: the classes or training images that a list names; images count by name and size"
_HINT = f"{LIST} holds wnids (n02869837) or names of training images (n04235860_14959.JPEG), not both"


@dataclass(frozen=True, slots=True)
class _Subset:
    base: Path
    classes: tuple[str, ...]  # wnids, sorted
    images: tuple[str, ...]  # of train as <wnid>/<file>, sorted; empty: all images of the classes


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the list, of its classes' images by name and size, and of the split rule.

    Raises: DataError when the list, or a class of it, is missing.
    """
    subset = _read(root)
    folders = [subset.base / split / name for split in ("train", "val") for name in subset.classes]
    rule = RULE + label_lists.signature(root)
    return digest_tree(subset.base, rule, files=[subset.base / LIST], folders=folders)


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read, not before.

    Raises: DataError when the list is missing or names what is not there.
    """
    subset = _read(root)
    train = imagenet.read_split(subset.base / "train", subset.classes)
    splits = {
        "train": _pick(train, subset) if subset.images else train,
        "test": imagenet.read_split(subset.base / "val", subset.classes),
    }
    return DataSet("imagenet_subset", subset.classes, splits, imagenet.MEAN, imagenet.STD)


def _read(root: Path) -> _Subset:
    base = imagenet.find(root)
    words = " ".join(layout.read_lines(base / LIST, _HINT)).split()
    named = sorted({_image(word) for word in words if word.lower().endswith(SUFFIXES)})
    classes = sorted({word for word in words if not word.lower().endswith(SUFFIXES)})
    if bool(named) == bool(classes):
        raise DataError(f"{base / LIST}: it holds {'both classes and images' if named else 'nothing'}", hint=_HINT)
    classes = classes or sorted({name.partition("/")[0] for name in named})
    for split in ("train", "val"):
        missing = sorted(set(classes) - set(imagenet.class_names(base, split)))
        if missing:
            raise DataError(f"{base / split}: no class folder {', '.join(missing[:3])}, which {LIST} asks for", _HINT)
    return _Subset(base, tuple(classes), tuple(named))


def _image(word: str) -> str:
    """Return <wnid>/<file> of a listed image, which may stand with or without its folder."""
    name = PurePosixPath(word).name
    return f"{name.partition('_')[0]}/{name}"


def _pick(train: Split, subset: _Subset) -> Split:
    assert isinstance(train.images, Files)
    rows = {f"{path.parent.name}/{path.name}": row for row, path in enumerate(train.images.paths)}
    missing = [name for name in subset.images if name not in rows]
    if missing:
        raise DataError(
            f"{subset.base / 'train'}: {len(missing)} images of {LIST} are missing, such as {missing[0]}", _HINT
        )
    picked = [rows[name] for name in subset.images]
    return Split(Files(tuple(train.images.paths[row] for row in picked)), train.labels[np.array(picked)])
