"""Losses that keep embeddings apart by their statistics: Barlow Twins and VICReg, pure functions of two views.

B images of the global batch (the caller gathers it), D embedding values. Half precision is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def barlow_twins(first_BD: Tensor, second_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the views' cross-correlation is from the identity: on its diagonal, and beside it.

    Two dimensionless scalars, sums of squares over D and over D * (D - 1) entries: invariance, then redundancy. The
    loss is invariance + lambda * redundancy. Gradients flow into both arguments. Needs 2 images.

    Source: Zbontar et al. 2021, arXiv:2103.03230, eq. (1) and (2). Columns are standardized by a batch norm, as in
    facebookresearch/barlowtwins, main.py: variance over B, plus 1e-5; algorithm 1 of the paper has it over B - 1.

    >>> views = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])  # already white
    >>> [round(term.item(), 3) for term in barlow_twins(views, views)]
    [0.0, 0.0]
    >>> [round(term.item(), 3) for term in barlow_twins(views, views.flip(1))]  # each value found in the other's place
    [2.0, 2.0]
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        correlation_DD = _standardized(first_BD).T @ _standardized(second_BD) / len(first_BD)
        invariance = (1.0 - correlation_DD.diagonal()).square().sum()
        return invariance, _beside_diagonal(correlation_DD).square().sum()


def vicreg(first_BD: Tensor, second_BD: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return VICReg's three terms: invariance, variance and covariance, the last two summed over the two views.

    Scalars: mean square over B and D of the views' distance; mean over D of what each value's standard deviation lacks
    to 1; sum of squares of the covariances of different values, over D. Gradients flow into both. Needs 2 images.

    Source: Bardes, Ponce, LeCun 2022, arXiv:2105.04906, eq. (1) to (6). Eq. (5) does not divide the invariance by D;
    the paper's algorithm 1 and facebookresearch/vicreg, main_vicreg.py, do (mse_loss), and so does this. `epsilon` is
    added to the variance under the root.

    >>> views = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # of unbiased variance 2, and both values the same
    >>> [round(term.item(), 3) for term in vicreg(views, views, epsilon=0.0)]  # covariances of 2: 2 * (4 + 4) / 2
    [0.0, 0.0, 8.0]
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        views = _wide(first_BD), _wide(second_BD)
        variance = sum((_lacking_deviation(view_BD, epsilon) for view_BD in views), start=views[0].new_zeros(()))
        covariance = sum((_shared_variance(view_BD) for view_BD in views), start=views[0].new_zeros(()))
        return functional.mse_loss(*views), variance, covariance


def _standardized(view_BD: Tensor) -> Tensor:
    return functional.batch_norm(_wide(view_BD), None, None, training=True)  # adds 1e-5 to the variance


def _lacking_deviation(view_BD: Tensor, epsilon: float) -> Tensor:
    return functional.relu(1.0 - (view_BD.var(dim=0) + epsilon).sqrt()).mean()


def _shared_variance(view_BD: Tensor) -> Tensor:
    centered_BD = view_BD - view_BD.mean(dim=0)
    covariance_DD = centered_BD.T @ centered_BD / (len(view_BD) - 1)
    return _beside_diagonal(covariance_DD).square().sum() / view_BD.shape[1]


def _beside_diagonal(matrix_DD: Tensor) -> Tensor:
    """Return all entries but the diagonal's, as a view: without the last entry, each D + 1 begin with one of it."""
    size = len(matrix_DD)
    return matrix_DD.flatten()[:-1].view(size - 1, size + 1)[:, 1:]


def _wide(view_BD: Tensor) -> Tensor:
    return view_BD if view_BD.dtype == torch.float64 else view_BD.float()
