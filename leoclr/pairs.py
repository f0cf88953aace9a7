"""Pairs of images, of one cluster or of two.

N pairs of one worker, M images of the data set, C clusters that have an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from leoclr.augment.draw import uniform

Indices = NDArray[np.int64]

_STREAM = 2  # of `draw.uniform`; the loader and the test views have others
_FIRST_CLUSTER, _OTHER_CLUSTER, _FIRST_IMAGE, _OTHER_IMAGE = range(4)  # what a pair's numbers are for


@dataclass(frozen=True, slots=True)
class Members:
    """The images of each cluster, in an order that makes drawing cheap."""

    images_M: Indices  # cluster after cluster
    starts_C: Indices  # place of each cluster's first image in `images_M`
    sizes_C: Indices  # rising

    @staticmethod
    def of(clusters_M: Indices) -> Members:
        """Return the members of each cluster that has any, given each image's cluster."""
        _, own_M, sizes_C = np.unique(clusters_M, return_inverse=True, return_counts=True)
        starts_C, rising_C = np.cumsum(sizes_C) - sizes_C, np.argsort(sizes_C, kind="stable")
        return Members(np.argsort(own_M, kind="stable"), starts_C[rising_C], sizes_C[rising_C])

    def pairs(self, indices_N: Indices, *, seed: int, epoch: int) -> tuple[Indices, Indices]:
        """Return the first image [N] and its partner [N] of the pair for each of `indices_N`.

        For an even index they are of different clusters, for an odd one two images of one. Clusters are drawn evenly,
        whatever their sizes, then images in them; those with one image are in no odd pair. A pair is a function of the
        seed, the epoch, its index and the clusters.
        Source: stoneMo/SPCL, utils.py, CustomDataset_metric.__getitem__. There an odd pair may be one image twice, with
        other views; here views are a function of the image, and a pair of equal pictures teaches nothing.

        With one cluster, or with none of two images, where the code never returns, pairs are what is left: of the one
        cluster, or an image and itself.
        """
        draws_NU = uniform(seed, epoch, torch.from_numpy(indices_N), stream=_STREAM, count=4).double().numpy()
        odd_N = indices_N % 2 == 1
        lonely = int(np.searchsorted(self.sizes_C, 2)) % len(self.sizes_C)
        least_N = np.where(odd_N, lonely, 0)
        first_N = least_N + _below(draws_NU[:, _FIRST_CLUSTER], len(self.sizes_C) - least_N)
        other_N = _another(first_N, draws_NU[:, _OTHER_CLUSTER], len(self.sizes_C))
        other_N = np.where(odd_N, first_N, other_N)
        place_N = _below(draws_NU[:, _FIRST_IMAGE], self.sizes_C[first_N])
        beside_N = _another(place_N, draws_NU[:, _OTHER_IMAGE], self.sizes_C[first_N])
        partner_N = np.where(odd_N, beside_N, _below(draws_NU[:, _OTHER_IMAGE], self.sizes_C[other_N]))
        return self.images_M[self.starts_C[first_N] + place_N], self.images_M[self.starts_C[other_N] + partner_N]


def _below(draws_N: NDArray[np.float64], bound: Indices | int) -> Indices:
    """Return integers from 0 to `bound` - 1, given numbers in [0, 1)."""
    return np.floor(draws_N * bound).astype(np.int64)


def _another(taken_N: Indices, draws_N: NDArray[np.float64], count: Indices | int) -> Indices:
    """Return integers from 0 to `count` - 1, none the one that is taken, unless there is no other."""
    return (taken_N + 1 + _below(draws_N, count - 1)) % count
