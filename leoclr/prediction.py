"""The loss of BYOL and SimSiam: how well one view's embedding is predicted from the other's.

N images of one worker's batch, D embedding values.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def negative_cosine(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Return minus the mean cosine of each prediction and its target: -1 where all agree, 1 where all are opposed.

    Rows need not have unit length. Gradients flow into both arguments: the caller detaches targets.
    Source: Chen and He 2021, arXiv:2011.10566, eq. (1).

    >>> import torch
    >>> round(negative_cosine(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 3.0]])).item(), 4)
    -0.7071
    """
    return -functional.cosine_similarity(prediction_ND, target_ND, dim=1).mean()


def unit_distance(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Return the mean squared distance of unit-length predictions and targets, 2 - 2 * cosine: from 0 to 4.

    Rows are scaled to unit length here. Gradients flow into both arguments: the caller detaches targets.
    Source: Grill et al. 2020, arXiv:2006.07733, eq. (2); deepmind-research, byol/utils/helpers.py, regression_loss.

    >>> import torch
    >>> unit_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])).item()
    2.0
    """
    return 2.0 + 2.0 * negative_cosine(prediction_ND, target_ND)
