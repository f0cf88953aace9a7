"""Barlow Twins: the cross-correlation of two views' embeddings is drawn to the identity matrix.

Zbontar et al. 2021, arXiv:2103.03230. Where the paper leaves a choice, the code decides:
https://github.com/facebookresearch/barlowtwins/blob/8e8d284ca0bc02f88b92328e53f9b901e86b4a3c/main.py, below "main.py".

B images of the global batch, D embedding values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.nn import functional

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import mlp
from leoclr.losses import spread
from leoclr.methods import contract
from leoclr.methods.asymmetric import AsymmetricAugmentation
from leoclr.methods.contract import Batch, Facts, Step, require
from leoclr.redundancy import barlow_twins

TRAINS = True
WATCHES: tuple[str, ...] = ("invariance", "redundancy", "embedding_spread")
RECIPE: Mapping[str, Any] = {
    "epochs": 1000,  # main.py, and the paper
    "batch": 2048,  # the same
    "optimizer": "lars_late",  # main.py, class LARS
    "lr": 1.6,  # 0.2 * 2048 / 256; the same
    # Paper and main.py: 0.0048 for vectors, 0.2 for arrays; decay of 1.5e-6 (paper), 1e-6 (main.py). But main.py sums
    # the correlations of W workers by an all_reduce without gradient: what it follows is the loss's gradient over W, 16
    # in its README's run and 32 in the paper's. LARS takes a factor out, though not of vectors, and adds decay before.
    # Here the gradient is the loss's own on any number of workers; these two values make it the README's run, exactly.
    "vector_lr_scale": 0.0015,  # 0.0048 / 0.2 / 16
    "weight_decay": 1.6e-5,  # 1e-6 * 16
    "rate_moves": "step",  # main.py, adjust_learning_rate
    "warmup_epochs": 10,  # the same, and the paper
    "final_lr": 0.001,  # the same: share at which the cosine ends
    "sync_bn": True,  # main.py
    "zero_init_residual": True,  # main.py
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AsymmetricAugmentation):
    """Settings of Barlow Twins; the defaults are its ImageNet recipe.

    Raises: ValueError naming the field whose value is out of range.
    """

    projector: tuple[int, ...] = (8192, 8192, 8192)  # widths of its layers; main.py, and the paper
    redundancy_weight: float = 0.0051  # lambda; main.py. Paper: 0.005

    def __post_init__(self) -> None:
        AsymmetricAugmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        require(
            len(self.projector) >= 1 and min(self.projector) >= 1, "projector", "one width or more, at least 1 each"
        )
        require(self.projector[-1] >= 2, "projector", "at least 2 values wide in the end: they are compared")
        require(self.redundancy_weight >= 0, "redundancy_weight", "at least 0")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the two crops."""
    return config.pair(size)


class Method(contract.Method):
    """One network, two views; the loss is that of the global batch, whatever the number of workers."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and a new projector, both from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = mlp((backbone.feature_dim, *config.projector), hidden_bias=False, last_bias=False)

    def forward(self, batch: Batch) -> Step:
        """Return the loss of the global batch, the same on every worker.

        Source: eq. (1) of arXiv:2103.03230. Gathering costs N x D values a worker; main.py sums D x D of them.
        """
        rows = [distributed.gather_with_gradient(self.head(self.backbone(view_NCHW))) for view_NCHW in batch.views]
        invariance, redundancy = barlow_twins(*rows)
        even = spread(functional.normalize(rows[0].detach(), dim=1))
        seen = ("invariance", invariance.detach()), ("redundancy", redundancy.detach()), ("embedding_spread", even)
        return Step(loss=invariance + self.config.redundancy_weight * redundancy, watch=seen)
