"""Weighted k-nearest-neighbor vote on frozen features: the cheap monitor of a pre-training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 1024
"""Queries compared with the whole bank at once: 1,024 x 1.28 M similarities in float32 are 5.2 GB. Moves no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnSettings:
    """Settings of the vote."""

    k: int = 200  # neighbors; Wu et al. 2018, arXiv:1805.01978, 3.4, and the CIFAR-10 demo of facebookresearch/moco
    temperature: float = 0.1  # dimensionless; the same demo (Wu et al.: 0.07)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: {self.k} is not a positive number of neighbors")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} is not positive")


def vote(bank_MF: Tensor, labels_M: Tensor, queries_NF: Tensor, *, settings: KnnSettings) -> Tensor:
    """Return the class of each query, int64 [N]: the k nearest of the bank vote with weight exp(cosine / temperature).

    Rows of any length; k is clipped to the size of the bank. Equal votes go to the lower class.
    Source: Wu et al. 2018, arXiv:1805.01978, sec. 3.4.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> vote(bank, torch.tensor([3, 5]), torch.tensor([[0.9, 0.1]]), settings=KnnSettings(k=1)).tolist()
    [3]
    """
    bank_FM = functional.normalize(bank_MF, dim=1).T
    queries_NF = functional.normalize(queries_NF, dim=1)
    classes = int(labels_M.max()) + 1
    return torch.cat([_vote(q, bank_FM, labels_M, classes, settings) for q in torch.split(queries_NF, CHUNK)])


def _vote(queries_NF: Tensor, bank_FM: Tensor, labels_M: Tensor, classes: int, settings: KnnSettings) -> Tensor:
    nearest = (queries_NF @ bank_FM).topk(min(settings.k, len(labels_M)), dim=1)
    weight_Nk = ((nearest.values - nearest.values[:, :1]) / settings.temperature).exp()  # the nearest has weight 1
    votes_NC = weight_Nk.new_zeros(len(queries_NF), classes)
    votes_NC.scatter_add_(1, labels_M[nearest.indices], weight_Nk)
    return votes_NC.argmax(dim=1)
