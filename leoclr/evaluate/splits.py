"""Which training images an evaluation may use: shares of the labels, published lists, and parts of splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leoclr.data import label_lists
from leoclr.data.contract import UNLABELED, DataError, DataSet, Images, Split, Stack, draw_per_class
from leoclr.data.files import Files
from leoclr.data.packed import Packed
from leoclr.evaluate.validation import Indices, hold_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one training sees: the training images that it may use, and the split that it is scored on at its end."""

    data: DataSet
    chosen: Indices  # of the training split
    scored: Literal["test", "val"] = "test"
    facts: Mapping[str, float] = field(default_factory=dict)  # recorded with the final numbers


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of others, by index; an `Images`."""

    images: Images
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> NDArray[np.uint8]:
        return self.images.read(int(self.indices[index]))


@dataclass(frozen=True, slots=True)
class Joined:
    """The images of one after those of another; an `Images`."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, index: int) -> NDArray[np.uint8]:
        split = len(self.first)
        return self.first.read(index) if index < split else self.second.read(index - split)


def draw_labels(labels: NDArray[np.int64], *, pct: float, seed: int) -> Indices:
    """Return the sorted indices of `pct` percent of the images of each class, drawn from `seed` alone.

    That is a whole number of each class, at least 1; halves round to the even number. Images without a label are never
    drawn.

    >>> draw_labels(np.array([0] * 10 + [1] * 300), pct=1, seed=0).size
    4
    """
    classes, counts = np.unique(labels[labels != UNLABELED], return_counts=True)
    shares = {int(c): max(1, round(int(n) * pct / 100)) for c, n in zip(classes, counts, strict=True)}
    return draw_per_class(labels, shares, seed=seed)[0]


def published_labels(split: Split, *, pct: float, root: Path) -> Indices | None:
    """Return the sorted indices of the images that the published list of `pct` percent below `root` names.

    None when there is no such list (see `leoclr.data.label_lists`).
    Raises: DataError when it is not the published one, or names images that `split` has not.
    """
    names = label_lists.read(root, pct)
    if names is None:
        return None
    place = f"{root / label_lists.FOLDER}: list of {pct:g} %"
    if not isinstance(split.images, Files | Packed):
        raise DataError(f"{place}: this data set's images are no files", hint="remove the list")
    where = {path.name: index for index, path in enumerate(split.images.paths)}
    absent = [name for name in names if name not in where]
    if absent:
        raise DataError(
            f"{place}: {len(absent)} of its {len(names)} images are not in the training split, such as {absent[0]}",
            hint="the list is of ImageNet's training images: use the whole training split, with its file names",
        )
    chosen = np.array(sorted({where[name] for name in names}), np.int64)
    if (split.labels[chosen] == UNLABELED).any():
        raise DataError(f"{place}: it names images whose class is not known")
    return chosen


def part(split: Split, indices: Indices) -> Split:
    """Return the images of `split` at `indices`, in that order, with their labels."""
    images = split.images
    if isinstance(images, Stack):
        kept: Images = Stack(images.images_NHWC[indices])
    elif isinstance(images, Files):
        kept = dataclasses.replace(images, paths=tuple(images.paths[i] for i in indices))
    else:
        kept = Part(images, indices)
    return Split(kept, split.labels[indices])


def join(first: Split, second: Split) -> Split:
    """Return the images of both, `first`'s before `second`'s, with their labels."""
    labels = np.concatenate([first.labels, second.labels])
    one, other = first.images, second.images
    if isinstance(one, Stack) and isinstance(other, Stack):
        return Split(Stack(np.concatenate([one.images_NHWC, other.images_NHWC])), labels)
    if isinstance(one, Files) and isinstance(other, Files):
        return Split(dataclasses.replace(one, paths=one.paths + other.paths), labels)
    return Split(Joined(one, other), labels)


def choosing(data: DataSet, chosen: Indices, *, images: int | None, seed: int) -> Task:
    """Return the task on which settings are chosen: "train" without held-out images, scored on those; no test split.

    Held out is the data set's own "val", unless `images` says how many: then a class-balanced draw of training images
    (see `hold_out`).
    Raises: ValueError when nothing of `chosen` is left to train on.
    """
    if "val" in data.splits and images is None:
        validation, left = data.splits["val"], chosen
    else:
        _, held = hold_out(data, how="balanced", images=images, seed=seed)
        validation, left = part(data.splits["train"], held), np.setdiff1d(chosen, held)
    if not len(left):
        raise ValueError("valid_images: all images to train on are held out")
    seen = dataclasses.replace(data, splits={"train": data.splits["train"], "val": validation})
    return Task(data=seen, chosen=left, scored="val")


def with_validation(data: DataSet) -> DataSet:
    """Return `data` with its own validation images, where it has some, behind its training images."""
    if "val" not in data.splits:
        return data
    joined = join(data.splits["train"], data.splits["val"])
    return dataclasses.replace(data, splits={"train": joined, "test": data.splits["test"]})
