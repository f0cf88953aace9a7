"""Losses that read clusters: whether two images are of one, and which one an image is of.

N pairs of images of one worker, F feature values, K clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_PROBABILITY, _LEAST_LABEL = 1e-7, 1e-4  # stoneMo/SPCL, model/losses.py, SCELoss


def siamese_metric(
    first: tuple[Tensor, Tensor], partner: tuple[Tensor, Tensor], same_N: Tensor, *, measure: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the sum of six binary cross-entropies: are two views of one image, or of one cluster? Mean over pairs.

    `first` and `partner` are the features [N, F] of two views of each image; `same_N` is 1 where both images are of one
    cluster, else 0; `measure` maps absolute differences [..., F] to scores [..., 1]. In nats.
    Source: arXiv:2208.08819, eq. (3); https://github.com/stoneMo/SPCL/blob/357015dc0c0b3f6259a4aaca39851e01b28520b9
    /model/losses.py, class MetricCriterion with BCE.

    >>> zero = (torch.zeros(1, 2), torch.zeros(1, 2))
    >>> no = siamese_metric(zero, zero, torch.zeros(1), measure=lambda gap_NF: gap_NF.sum(dim=-1, keepdim=True))
    >>> round(no.item() / math.log(2), 4)
    6.0
    """
    alike = [(first, torch.ones_like(same_N)), (partner, torch.ones_like(same_N))]
    crossed = [((one_NF, other_NF), same_N) for one_NF in first for other_NF in partner]
    pairs = [*alike, *crossed]
    scores = measure(torch.stack([(one_NF - other_NF).abs() for (one_NF, other_NF), _ in pairs])).squeeze(-1)
    targets = torch.stack([target_N for _, target_N in pairs])
    return len(pairs) * functional.binary_cross_entropy_with_logits(scores, targets)


def symmetric_cross_entropy(scores_NK: Tensor, labels_N: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Return alpha * cross-entropy + beta * reverse cross-entropy, mean over images: for labels that may be wrong.

    The reverse takes log(0) of the labels as log(1e-4), and probabilities as at least 1e-7. In nats.
    Source: Wang et al. 2019, arXiv:1908.06112, eq. (7), which calls log(0) A; stoneMo/SPCL, model/losses.py, SCELoss.

    >>> even = torch.zeros(1, 2)
    >>> round(symmetric_cross_entropy(even, torch.tensor([0]), alpha=0.0, beta=1.0).item(), 4)  # 0.5 * 4 * log(10)
    4.6052
    """
    chances_NK = scores_NK.softmax(dim=1).clamp(min=_LEAST_PROBABILITY)
    own_N = chances_NK.gather(1, labels_N[:, None]).squeeze(1)
    reverse_N = -math.log(_LEAST_LABEL) * (chances_NK.sum(dim=1) - own_N)
    return alpha * functional.cross_entropy(scores_NK, labels_N) + beta * reverse_N.mean()
