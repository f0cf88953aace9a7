"""Contrastive losses: pure functions of embeddings with unit rows.

N images of one worker's batch, D embedding values, K keys in the queue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(query_ND: Tensor, positive_ND: Tensor, negatives_KD: Tensor, *, temperature: float) -> Tensor:
    """Return the mean cross-entropy of finding each query's positive among K shared negatives.

    Rows have unit length; the result is a scalar in nats. Gradients flow into every argument: the caller detaches keys.
    Source: He et al. 2020, arXiv:1911.05722, eq. (1); the same as eq. (2) of LeOCLR, arXiv:2403.06813.

    >>> east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> round(info_nce(east, east, north, temperature=1.0).item(), 4)  # log(1 + 1/e)
    0.3133
    """
    return info_nce_shared(query_ND, (positive_ND,), negatives_KD, temperature=temperature)[0]


def info_nce_shared(
    query_ND: Tensor, positives: Sequence[Tensor], negatives_KD: Tensor, *, temperature: float
) -> tuple[Tensor, ...]:
    """Return one `info_nce` for each positive [N, D]: same queries, same negatives, the [N, K] scores computed once.

    Each term equals `info_nce(query_ND, positive_ND, negatives_KD)`: a positive is never another one's negative.
    Gradients flow into every argument: the caller detaches keys.
    Source: the two terms of eq. (3) of LeOCLR, arXiv:2403.06813 (there summed; the caller sums or averages them).

    >>> east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> [round(term.item(), 4) for term in info_nce_shared(east, (east, north), north, temperature=1.0)]
    [0.3133, 0.6931]
    """
    # Dividing the queries costs N x D, dividing the scores N x K.
    scaled_ND = query_ND / temperature
    rest_N = torch.logsumexp(scaled_ND @ negatives_KD.T, dim=1)
    return tuple(_cross_entropy((scaled_ND * positive_ND).sum(dim=1), rest_N) for positive_ND in positives)


def spread(rows_ND: Tensor) -> Tensor:
    """Return how evenly unit rows fill the sphere: 0 when all are one vector (collapse), about 1 when uniform.

    A scalar: sqrt(D) times the standard deviation over the batch, mean over D. A number to watch, not a loss.
    Source: Chen and He 2021, arXiv:2011.10566, section 4.1.

    >>> spread(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()
    0.0
    """
    return rows_ND.std(dim=0, correction=0).mean() * math.sqrt(rows_ND.shape[1])


def _cross_entropy(positive_N: Tensor, rest_N: Tensor) -> Tensor:
    # -log(e^p / (e^p + e^r)) = -log(sigmoid(p - r)): no [N, 1 + K] concatenation, and exact where the loss is tiny,
    # where log(e^p + e^r) - p would cancel to zero.
    return -functional.logsigmoid(positive_N - rest_N).mean()
