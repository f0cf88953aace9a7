"""Clusters of features: whitening, then k-means, as faiss does both.

M images, F feature values, P whitened values, K clusters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_ROWS = 2**14  # rows of features at once: no second copy of all of them
_CELLS = 2**24  # distances at once
_NUDGE = 1 / 1024  # faiss/Clustering.cpp, EPS


def cluster(features_MF: Tensor, *, count: int, dim: int, iterations: int, rng: np.random.Generator) -> Tensor:
    """Return the cluster of each image, int64 [M] below `count`: k-means on features whitened to `dim` values.

    The first centers are `count` different images, drawn from `rng`. Equal features give equal clusters on one kind of
    device: no atomic sums.
    Source: stoneMo/SPCL, clustering.py, class Kmeans (there with faiss on one GPU).

    Raises: ValueError when there are fewer images than clusters.
    """
    if len(features_MF) < count:
        raise ValueError(f"count: {count} clusters of {len(features_MF)} images")
    rows_MP = whiten(features_MF, dim=dim)
    first_K = torch.from_numpy(rng.permutation(len(rows_MP))[:count]).to(rows_MP.device)
    return lloyd(rows_MP, rows_MP[first_K], iterations=iterations, rng=rng)[0]


def whiten(rows_MF: Tensor, *, dim: int) -> Tensor:
    """Return the rows [M, P] along their principal directions, each of unit variance, then each row of unit length.

    P is the smallest of `dim`, F and M - 1. A direction whose variance is below rounding becomes 0, where faiss divides
    by it. Signs of directions are arbitrary; distances do not depend on them.
    Source: stoneMo/SPCL, clustering.py, preprocess_features: faiss's PCAMatrix with eigen_power=-0.5, then L2. faiss
    looks at no more than 1000 rows for each feature value; here at all. A common factor is gone with the row's length.
    """
    mean_F = rows_MF.mean(dim=0)
    scatter_FF = torch.zeros(rows_MF.shape[1], rows_MF.shape[1], dtype=torch.float64, device=rows_MF.device)
    for part_NF in rows_MF.split(_ROWS):
        centered_NF = part_NF - mean_F
        scatter_FF += centered_NF.T @ centered_NF
    variances_F, directions_FF = torch.linalg.eigh(scatter_FF)  # rising
    kept = min(dim, rows_MF.shape[1], len(rows_MF) - 1)
    variances_P, directions_FP = variances_F[-kept:], directions_FF[:, -kept:]
    plain = variances_P > variances_P[-1] * torch.finfo(rows_MF.dtype).eps
    scale_P = torch.where(plain, variances_P.clamp(min=torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    whitening_FP = (directions_FP * scale_P).to(rows_MF.dtype)
    return torch.cat([functional.normalize((part_NF - mean_F) @ whitening_FP) for part_NF in rows_MF.split(_ROWS)])


def lloyd(rows_MP: Tensor, centers_KP: Tensor, *, iterations: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the nearest center of each row, int64 [M], and the centers [K, P] after `iterations` of Lloyd's algorithm.

    A cluster that became empty takes half of another one; see `split_for_empty`, which draws from `rng`.
    Source: facebookresearch/faiss, faiss/Clustering.cpp, Clustering::train; the clusters are of a last search, behind
    the last move of the centers.
    """
    for _ in range(iterations):
        centers_KP = split_for_empty(*_means(rows_MP, centers_KP), rng)
    return torch.cat([_nearest(part_NP, centers_KP) for part_NP in _parts(rows_MP, centers_KP)]), centers_KP


def split_for_empty(centers_KP: Tensor, sizes_K: Tensor, rng: np.random.Generator) -> Tensor:
    """Return centers [K, P] where each of an empty cluster is now beside that of a large one, which it will halve.

    The large one is drawn with a probability that rises with its size - 1; both are moved by 1/1024, apart.
    Source: facebookresearch/faiss, faiss/Clustering.cpp, split_clusters, which draws in another way (it goes around the
    clusters until one of them is accepted, with a generator that always starts from 1234).
    """
    sizes = sizes_K.double().cpu().numpy()
    centers_KP = centers_KP.clone()
    apart_P = 1 + _NUDGE * (1 - 2 * (torch.arange(centers_KP.shape[1], device=centers_KP.device) % 2))
    for empty in np.flatnonzero(sizes == 0):
        chances = np.maximum(sizes - 1, 0)
        large = int(rng.choice(len(sizes), p=chances / chances.sum()))
        centers_KP[empty] = centers_KP[large] * apart_P
        centers_KP[large] *= 2 - apart_P
        sizes[empty] = sizes[large] = sizes[large] / 2
    return centers_KP


def _means(rows_MP: Tensor, centers_KP: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean [K, P] of the rows nearest to each center (0 for none), and how many these are [K]."""
    totals_KP, sizes_K = torch.zeros_like(centers_KP), centers_KP.new_zeros(len(centers_KP))
    for part_NP in _parts(rows_MP, centers_KP):
        belongs_NK = functional.one_hot(_nearest(part_NP, centers_KP), len(centers_KP)).to(part_NP.dtype)
        totals_KP += belongs_NK.T @ part_NP  # a product, not index_add: on a GPU that sums in any order
        sizes_K += belongs_NK.sum(dim=0)
    return totals_KP / sizes_K.clamp(min=1)[:, None], sizes_K


def _nearest(rows_NP: Tensor, centers_KP: Tensor) -> Tensor:
    return (centers_KP.square().sum(dim=1) - 2 * (rows_NP @ centers_KP.T)).argmin(dim=1)


def _parts(rows_MP: Tensor, centers_KP: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows_MP, max(1, _CELLS // len(centers_KP)))
