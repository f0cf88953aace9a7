"""Held-out training images: settings are chosen on them, never on the test split."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import UNLABELED, DataSet, draw_per_class

Indices = NDArray[np.int64]
HoldOut = Literal["balanced", "last"]
"""balanced: drawn from every class in proportion, by the seed; last: the last ones in the data set's own order."""


def hold_out(data: DataSet, *, how: HoldOut, images: int | None, seed: int) -> tuple[Indices, Indices]:
    """Return (kept, held): sorted indices of the labeled training images that train, and of those that choose.

    A data set's own "val" split chooses, where it has one: then the indices are those of `splits.with_validation`.
    Otherwise `images` are held out; None: as many as in the data set's papers (`valid_per_class`, `valid_size`), else
    a tenth. Raises: ValueError when nothing would be left to train on, or to choose on.
    """
    labels = data.splits["train"].labels
    labeled = np.flatnonzero(labels != UNLABELED)
    if "val" in data.splits and images is None:
        return labeled, len(labels) + np.flatnonzero(data.splits["val"].labels != UNLABELED)
    if how == "balanced" and images is None and data.valid_per_class is not None:
        held, kept = draw_per_class(labels, data.valid_per_class, seed=seed)
    else:
        count = images or data.valid_size or round(len(labeled) / 10)
        if not 0 < count < len(labeled):
            raise ValueError(f"valid_images: {count} of {len(labeled)} training images cannot be held out")
        if how == "last":
            return labeled[:-count], labeled[-count:]
        held, kept = draw_per_class(labels, _shares(labels[labeled], count), seed=seed)
    return kept, held


def _shares(labels: NDArray[np.int64], count: int) -> dict[int, int]:
    """Return how many of each class, in proportion and `count` together; the rest goes by largest remainder."""
    classes, images = np.unique(labels, return_counts=True)
    exact = images * (count / len(labels))
    shares = np.floor(exact).astype(np.int64)
    most = np.argsort(shares - exact, kind="stable")  # equal remainders: the lower class
    shares[most[: count - int(shares.sum())]] += 1
    return {int(label): int(share) for label, share in zip(classes, shares, strict=True)}
