"""VICReg: views agree, each value varies over the batch, no two values vary together.

Bardes, Ponce, LeCun 2022, arXiv:2105.04906. Where the paper leaves a choice, the code decides:
https://github.com/facebookresearch/vicreg/blob/4e12602fd495af83efd1631fbe82523e6db092e0/main_vicreg.py, below "main".

B images of the global batch, D embedding values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import mlp
from leoclr.methods import contract
from leoclr.methods.asymmetric import AsymmetricAugmentation
from leoclr.methods.contract import Batch, Facts, Step, require
from leoclr.redundancy import vicreg

TRAINS = True
WATCHES: tuple[str, ...] = ("invariance", "variance", "covariance", "deviation")
RECIPE: Mapping[str, Any] = {
    "epochs": 1000,  # section 4.2; README, "Multi-node training". main's default: 100
    "batch": 2048,  # the same; README has 512 with a base rate of 0.3 for 100 epochs on one machine
    "optimizer": "lars_late",  # main, class LARS
    "lr": 1.6,  # 0.2 * 2048 / 256; section 4.2, and main
    "weight_decay": 1e-6,  # the same
    "rate_moves": "step",  # main, adjust_learning_rate
    "warmup_epochs": 10,  # the same
    "final_lr": 0.001,  # share at which the cosine ends, main: at 0.0016; section 4.2 has a final value of 0.002
    "sync_bn": True,  # main
    "zero_init_residual": True,  # main
}

VarianceViews = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AsymmetricAugmentation):
    """Settings of VICReg; the defaults are its ImageNet recipe.

    Raises: ValueError naming the field whose value is out of range.
    """

    expander: tuple[int, ...] = (8192, 8192, 8192)  # widths of its layers; section 4.2, and main
    invariance_weight: float = 25.0  # lambda; the same
    variance_weight: float = 25.0  # mu; the same
    covariance_weight: float = 1.0  # nu; the same
    variance_views: VarianceViews = (
        "mean"  # of the two views' terms: main halves their sum. Eq. (6), algorithm 1: "sum"
    )
    epsilon: float = 1e-4  # added to a variance under the root; section 4.2, and main

    def __post_init__(self) -> None:
        AsymmetricAugmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        require(len(self.expander) >= 1 and min(self.expander) >= 1, "expander", "one width or more, at least 1 each")
        require(self.expander[-1] >= 2, "expander", "at least 2 values wide in the end: they are compared")
        for field in ("invariance_weight", "variance_weight", "covariance_weight"):
            require(getattr(self, field) >= 0, field, "at least 0")
        choices = get_args(VarianceViews)
        require(self.variance_views in choices, "variance_views", f"one of {', '.join(choices)}")
        require(self.epsilon > 0, "epsilon", "above 0: the root has no gradient at 0")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the two crops."""
    return config.pair(size)


class Method(contract.Method):
    """One network, two views; the loss is that of the global batch, whatever the number of workers."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and a new expander, both from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        # main, Projector: the hidden layers have a bias, in front of a batch norm; the last has none.
        self.head = mlp((backbone.feature_dim, *config.expander), hidden_bias=True, last_bias=False)

    def forward(self, batch: Batch) -> Step:
        """Return the loss of the global batch, the same on every worker.

        Source: eq. (6) of arXiv:2105.04906; main, VICReg.forward.
        """
        config = self.config
        rows = [distributed.gather_with_gradient(self.head(self.backbone(view_NCHW))) for view_NCHW in batch.views]
        invariance, variance, covariance = vicreg(*rows, epsilon=config.epsilon)
        if config.variance_views == "mean":
            variance = variance / 2
        loss = config.invariance_weight * invariance + config.variance_weight * variance
        loss = loss + config.covariance_weight * covariance
        terms = ("invariance", invariance), ("variance", variance), ("covariance", covariance)
        deviation = rows[0].detach().std(dim=0).mean()
        return Step(loss=loss, watch=(*((name, term.detach()) for name, term in terms), ("deviation", deviation)))
