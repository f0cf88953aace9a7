"""What a data set is: named splits of images with labels, and a digest of all that its numbers depend on.

Shapes: N images, H rows, W columns, 3 channels last (R, G, B), uint8. This package is numpy only, so that a plan can
ask for a digest without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

UNLABELED = -1
"""The label of an image whose class is not known. It never reaches an evaluation."""


class DataError(ValueError):
    """The user's data is missing or wrong; the message says what and where, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Images(Protocol):
    """Images by index: in memory (`Stack`) or decoded when asked for."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 [H, W, 3]; sizes may differ between images.

        Raises: DataError naming the file when it cannot be decoded.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stack:
    """Images of one size held in memory."""

    images_NHWC: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def read(self, index: int) -> NDArray[np.uint8]:
        image_HWC: NDArray[np.uint8] = self.images_NHWC[index]
        return image_HWC


@dataclass(frozen=True, slots=True)
class Boxes:
    """Objects of one scene, for detection."""

    boxes: NDArray[np.float32]  # [objects, 4] as x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive
    labels: NDArray[np.int64]  # [objects], 1-based: 0 is background, as torchvision's detectors count
    difficult: NDArray[np.bool_]  # [objects], left out of the score as VOC does
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))  # [objects] of COCO; empty: none is
    area: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))  # pixels of the mask; empty: box


@dataclass(frozen=True, slots=True)
class Split:
    """One split: images with a class each (classification) or with boxes (detection)."""

    images: Images
    labels: NDArray[np.int64]  # [N], UNLABELED where unknown; empty for detection
    scenes: Sequence[Boxes] = field(default=())  # one per image for detection, else empty

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set as loaded: its splits are disjoint."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]  # "train" and "test" always; "unlabeled" or "val" where the data set has them
    mean: tuple[float, float, float]  # per channel, of the training split, images scaled to 0..1
    std: tuple[float, float, float]
    metric: Literal["top1", "mean_per_class", "map11"] = "top1"  # what papers report on the test split
    valid_size: int | None = None  # images of "train" that papers hold out to choose settings; None: not published
    valid_per_class: int | None = None  # the same, drawn class by class, where the data set's papers do so


@dataclass(frozen=True, kw_only=True, slots=True)
class Corrupt:
    """What happens at an image that cannot be decoded."""

    policy: Literal["fail", "skip"] = "fail"  # fail: the first one ends the job; skip: it is left out of its split
    limit: int = 0  # most images that may be left out

    def __post_init__(self) -> None:
        if self.policy not in ("fail", "skip"):
            raise ValueError(f"policy: {self.policy!r} is neither fail nor skip")
        if self.limit < 0:
            raise ValueError(f"limit: {self.limit} is negative")
        if self.policy == "fail" and self.limit:
            raise ValueError(f"limit: {self.limit} images may be left out, but the policy is fail")


class DataModule(Protocol):
    """What each file of this package defines.

    `root` is the folder that the user names for the data set, or a cache folder that a generated data set may write
    once; data sets that come inside a package ignore it.
    """

    def digest(self, root: Path) -> str:
        """Return the sha256 (hex) of the content and of the rule that splits it; no torch, fast when repeated.

        Raises: DataError when the data is not there.
        """
        ...

    def load(self, root: Path) -> DataSet:
        """Return the data set. Raises: DataError when the data is missing or wrong."""
        ...


def draw_per_class(
    labels: NDArray[np.int64], per_class: int | Mapping[int, int], *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (drawn, rest): sorted indices of a class-balanced draw, and all others.

    `per_class` images of every class (or of each class its own count) are drawn without replacement, from `seed` alone.
    Images without a label are in neither part.

    >>> drawn, rest = draw_per_class(np.array([0, 0, 1, 1, -1]), 1, seed=0)
    >>> len(drawn), len(rest)
    (2, 2)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn: list[NDArray[np.int64]] = []
    for label in np.unique(labels[labels != UNLABELED]):
        members = np.flatnonzero(labels == label)
        count = per_class if isinstance(per_class, int) else per_class[int(label)]
        if count > len(members):
            raise DataError(
                f"class {label} has {len(members)} images, fewer than the {count} to draw",
                hint="ask for fewer labels a class",
            )
        drawn.append(rng.permutation(members)[:count])
    chosen = np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)
    rest = np.setdiff1d(np.flatnonzero(labels != UNLABELED), chosen)
    return chosen, rest
