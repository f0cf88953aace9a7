"""BYOL: a trained network predicts what its slow copy makes of another view of the image.

Grill et al. 2020, arXiv:2006.07733. Where the paper leaves a choice, the code decides:
https://github.com/google-deepmind/deepmind-research/tree/f5de0ede8430809180254ee957abf36ed62579ef/byol, below "byol".

N images of one worker's batch, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from leoclr import optim
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import mlp
from leoclr.losses import spread
from leoclr.methods import contract
from leoclr.methods.asymmetric import AsymmetricAugmentation
from leoclr.methods.contract import At, Batch, Facts, Step, require
from leoclr.momentum import SlowEncoder
from leoclr.prediction import unit_distance

TRAINS = True
WATCHES: tuple[str, ...] = ("positive_similarity", "target_spread")
RECIPE: Mapping[str, Any] = {
    "epochs": 1000,  # paper, "Implementation details"; byol/configs/byol.py has presets for 40, 100, 300 and 1000
    "batch": 4096,  # the same; byol/README.md
    "optimizer": "lars_late",  # byol/utils/optimizers.py: the rate scales the velocity; batch norm and biases excluded
    "lr": 3.2,  # 0.2 * 4096 / 256; the preset for 300 epochs has 0.3, those for 100 and 40 have 0.45
    "weight_decay": 1.5e-6,  # the presets below 1000 epochs have 1e-6
    "rate_moves": "step",  # byol/utils/schedules.py: cosine to 0
    "warmup_epochs": 10,  # byol/configs/byol.py
    "sync_bn": True,  # byol/configs/byol.py: cross_replica_axis
    # zero_init_residual stays False, as the paper's results were obtained (byol/README.md, "Note on batch
    # normalization"); byol's code has it, through Haiku's ResNet. No difference for a ResNet-50, says the same note.
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AsymmetricAugmentation):
    """Settings of BYOL; the defaults are its ImageNet recipe with 1000 epochs.

    Raises: ValueError naming the field whose value is out of range.
    """

    hidden_dim: int = 4096  # of projector and predictor; byol/configs/byol.py, and the paper
    dim: int = 256  # values of an embedding; the same
    momentum: float = 0.996  # of the target at the start, 1 at the end; 0.99 for 300 and 100 epochs, 0.97 for 40

    def __post_init__(self) -> None:
        AsymmetricAugmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        require(self.hidden_dim >= 1, "hidden_dim", "at least 1")
        require(self.dim >= 1, "dim", "at least 1")
        require(0 <= self.momentum <= 1, "momentum", "from 0 to 1")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the two crops; each is predicted from the other."""
    return config.pair(size)


class Method(contract.Method):
    """Two networks: the trained one ("online") predicts the projections of its slow copy ("target"), both ways.

    The trained one is evaluated (section 3.1, "at the end of training, we only keep the encoder"). The target starts as
    a copy; byol_experiment.py draws it anew, and "did not notice a significant difference". Layers start as torch's do,
    not Haiku's.
    """

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, its copy, and new heads, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        # byol/utils/networks.py, MLP: the first layer has a bias, in front of a batch norm; the last has none.
        self.head = mlp((backbone.feature_dim, config.hidden_dim, config.dim), hidden_bias=True, last_bias=False)
        self.predictor = mlp((config.dim, config.hidden_dim, config.dim), hidden_bias=True, last_bias=False)
        self.slow = SlowEncoder(backbone, self.head, momentum=config.momentum, shuffle_bn=False)

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return "": each image's distance is its own."""
        return ""

    def forward(self, batch: Batch) -> Step:
        """Return the sum over both directions of the mean squared distance, from 0 to 8.

        Source: eq. (2) of arXiv:2006.07733 and the sentence below it (symmetrized); byol_experiment.py, loss_fn.
        """
        first_NCHW, second_NCHW = batch.views
        predictions = [self.predictor(self.head(self.backbone(view_NCHW))) for view_NCHW in (first_NCHW, second_NCHW)]
        targets = [self.slow(second_NCHW, view=0), self.slow(first_NCHW, view=1)]
        terms = [unit_distance(*pair) for pair in zip(predictions, targets, strict=True)]
        loss = torch.stack(terms).sum()
        cosine = 1.0 - loss.detach() / 4.0
        return Step(loss=loss, watch=(("positive_similarity", cosine), ("target_spread", spread(targets[0]))))

    def before_step(self, at: At) -> None:
        """Move the target towards the trained network, as the step before this one moved that one.

        byol_experiment.py moves it at the end of a step, by the momentum of that step.
        """
        if at.step:
            self.slow.update(self.backbone, self.head, step=at.step, momentum=self.momentum(at.step - 1, at.total))

    def momentum(self, step: int, total: int) -> float:
        """Return the target's momentum after `step` of `total`: from `config.momentum` to 1 by half a cosine.

        Source: arXiv:2006.07733, "Implementation details", "Optimization"; byol/utils/schedules.py, target_ema.
        """
        return 1.0 - optim.cosine(1.0 - self.config.momentum, step, total=total)
