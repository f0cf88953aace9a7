"""Contrastive losses: pure functions of embeddings with unit rows.

N images of one worker's batch, B of all workers', D embedding values, K keys in the queue (or in a bank).
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


def in_batch(
    query_ND: Tensor, candidates_BD: Tensor, *, positive_N: Tensor, excluded_N: Tensor, temperature: float
) -> Tensor:
    """Return the mean cross-entropy of finding candidate `positive_N[i]` by query i, among all but `excluded_N[i]`.

    Rows have unit length, indices are int64; the result is a scalar in nats. Gradients flow into both sides.
    Source: eq. (1) of Chen et al. 2020, arXiv:2002.05709, for one side of the pairs.
    """
    scores_NB = (query_ND / temperature) @ candidates_BD.T
    kept_NB = scores_NB.scatter(1, excluded_N[:, None], -math.inf)
    return functional.cross_entropy(kept_NB, positive_N)


def nt_xent(views: Sequence[Tensor], everyone: Sequence[Tensor], *, first: int = 0, temperature: float) -> Tensor:
    """Return NT-Xent, the mean over the 2N embeddings of two views: each finds its other view among all embeddings.

    `views` are two [N, D] of this worker, `everyone` the same two of all workers [B, D] with gradient, where this
    worker's rows begin at `first`; with one worker they are `views` again. Rows have unit length; nats.
    Source: Chen et al. 2020, arXiv:2002.05709, eq. (1) and algorithm 1, whose loss is the mean over 2N. Its code,
    google-research/simclr, objective.py, adds the means of the two sides instead: twice this.

    >>> east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> pair = (torch.stack([east, north]), torch.stack([east, north]))
    >>> round(nt_xent(pair, pair, temperature=1.0).item(), 4)  # log(e + 2) - 1
    0.5514
    """
    size, candidates_BD = len(everyone[0]), torch.cat(list(everyone))
    own_N = torch.arange(first, first + len(views[0]), device=views[0].device)
    sides = [
        in_batch(
            view_ND,
            candidates_BD,
            positive_N=own_N + (1 - side) * size,
            excluded_N=own_N + side * size,
            temperature=temperature,
        )
        for side, view_ND in enumerate(views)
    ]
    return torch.stack(sides).mean()


def ddm(strong_NK: Tensor, weak: Sequence[Tensor]) -> Tensor:
    """Return how far the strong view's distribution over a bank is from that of each weak view, summed over them.

    The mean over images of the cross-entropy -sum(p_weak * log p_strong), in nats. Arguments are scores [N, K], cosines
    over the temperature; no gradient flows into the weak ones.
    Source: Wang and Qi 2021, arXiv:2104.07713, eq. (4), and
    https://github.com/maple-research-lab/CLSA/blob/37df76cf5cb032683e57b70a3a4090f0d524c8fd/training/train.py

    >>> even = torch.zeros(1, 2)
    >>> round(ddm(even, (even, even)).item(), 4)  # 2 log(2)
    1.3863
    """
    with torch.no_grad():
        # Cross-entropy is linear in its target: one pass over the strong scores, however many weak views there are.
        target_NK = torch.stack([weak_NK.softmax(dim=1) for weak_NK in weak]).sum(dim=0)
    return functional.cross_entropy(strong_NK, target_NK)


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
