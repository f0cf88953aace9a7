"""Linear classifiers, one a learning rate, trained side by side on the same features.

N images of one worker's batch, F feature values, C classes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from leoclr import heads
from leoclr.evaluate import features

Init = Literal["normal", "zeros", "fan_in"]
"""normal: N(0, 0.01), as MoCo; zeros: as SimCLR; fan_in: N(0, 1 / F) cut at two deviations, as BYOL. Bias 0 in all."""


class Classifiers(nn.Module):
    """As many classifiers as there are rates, all with the weights that one alone would start from.

    They share nothing but their input: each one's weights are bit for bit those of a run of its own.
    """

    def __init__(self, feature_dim: int, classes: int, *, count: int, init: Init, seed: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(feature_dim, classes, init, seed) for _ in range(count))

    def forward(self, features_NF: Tensor) -> list[Tensor]:
        """Return the scores [N, C] of each classifier."""
        return [head(features_NF) for head in self.heads]

    def groups(self) -> list[dict[str, list[nn.Parameter]]]:
        """Return the parameters of each classifier as a group of its own, for an optimizer with one rate a group."""
        return [{"params": list(head.parameters())} for head in self.heads]


def best_loss(losses: list[Tensor]) -> Tensor:
    """Return the smallest loss, without gradient: one rate of several may diverge without harm to the others."""
    losses_L = torch.stack(losses).detach()
    return losses_L[0] if len(losses) == 1 else losses_L.nan_to_num(nan=math.inf).min()


def _head(feature_dim: int, classes: int, init: Init, seed: int) -> nn.Linear:
    with features.seeded(seed, torch.device("cpu")):
        head = heads.linear_head(feature_dim, classes)
        if init == "zeros":
            nn.init.zeros_(head.weight)
        elif init == "fan_in":  # haiku, hk.Linear: TruncatedNormal(stddev=1 / sqrt(input size)), cut at 2 deviations
            std = 1 / math.sqrt(feature_dim)
            nn.init.trunc_normal_(head.weight, std=std, a=-2 * std, b=2 * std)
    return head
