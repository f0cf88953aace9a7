"""SimCLR: each of an image's two crops finds the other among all embeddings of the batch.

Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709. Where the paper leaves a choice, the code decides, below
"simclr": https://github.com/google-research/simclr/tree/383d4143fd8cf7879ae10f1046a9baeb753ff438

N images of one worker's batch, B of all workers', D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import embed, mlp
from leoclr.losses import nt_xent
from leoclr.methods import contract, moco_v2
from leoclr.methods.augmentation import Augmentation
from leoclr.methods.contract import Batch, Facts, Step, require

TRAINS = True
WATCHES: tuple[str, ...] = moco_v2.WATCHES
RECIPE: Mapping[str, Any] = {
    "epochs": 100,  # section 2.3, "default setting"; the published 69.3 % is of 1000
    "batch": 4096,  # section 2.3
    "optimizer": "lars",  # section 2.2
    "lr": 4.8,  # section 2.3: 0.3 * batch / 256. Appendix B.1: 0.075 * sqrt(batch), equal here, better when smaller
    "weight_decay": 1e-6,  # section 2.3. simclr README and run.py: 1e-4. We follow the paper, as the tables do
    "rate_moves": "step",  # simclr model_util.py
    "warmup_epochs": 10,  # section 2.3
    "sync_bn": True,  # section 2.2, "global BN"
    "zero_init_residual": True,  # simclr resnet.py, init_zero. Not in the paper
}

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of SimCLR; the defaults are its ImageNet recipe.

    On CIFAR-10 its README takes temperature 0.5, half the jitter and no blur. The paper's blur has a kernel of a tenth
    of the side, its code resizes bicubically; here they are PIL's blur and a bilinear resize, as in torch ports.

    Raises: ValueError naming the field whose value is out of range.
    """

    temperature: float = 0.1  # dimensionless, above 0; table 5 (best with unit rows), simclr run.py
    dim: int = 128  # values of an embedding; section 2.3
    layers: int = 2  # of the head: section 2.3. simclr run.py: 3, the head of SimCLR-v2 (arXiv:2006.10029)
    reduction: Reduction = "mean"  # over 2N embeddings, algorithm 1. "sum" of the two sides, twice that: objective.py
    joint_views: bool = True  # all views in one pass: batch norm sees 2N images; simclr model.py. Not in the paper

    # Augmentation: appendix A and simclr data_util.py, jitter strength 1
    crop_scale: tuple[float, float] = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        require(self.temperature > 0, "temperature", "above 0")
        require(self.dim >= 1, "dim", "at least 1")
        require(self.layers >= 1, "layers", "at least 1")
        require(self.reduction in get_args(Reduction), "reduction", f"one of {', '.join(get_args(Reduction))}")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return two crops, drawn alike."""
    return (config.view(size), config.view(size))


class Method(contract.Method):
    """One encoder, trained through both views; the batch is its own memory, so there is no state besides weights."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and head, drawn from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = new_head(config, backbone.feature_dim)

    def forward(self, batch: Batch) -> Step:
        """Return NT-Xent in nats over the batch of all workers; see `Config.reduction`."""
        rows = encode(self.backbone, self.head, batch.views, joint=self.config.joint_views)
        return Step(loss=contrast(rows, gathered(rows), config=self.config), watch=moco_v2.watch(rows[0], rows[1:]))


def new_head(config: Config, feature_dim: int) -> nn.Sequential:
    """Return `layers` linear layers, each with batch norm, ReLU between them: features [N, F] to embeddings [N, D].

    No layer has a bias, the last norm has a scale only, weights are drawn from N(0, 0.01).
    Source: google-research/simclr, model_util.py, projection_head and linear_layer. The paper names neither norm nor
    draw; its g is two layers with ReLU (section 2.1).
    """
    sizes = [feature_dim] * config.layers + [config.dim]
    head = mlp(sizes, hidden_bias=False, last_bias=False, last_norm="scale")
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    return head


def encode(backbone: nn.Module, head: nn.Module, images: Sequence[Tensor], *, joint: bool) -> tuple[Tensor, ...]:
    """Return unit embeddings [N, D] of each view [N, C, H, W]; `joint` views share their batch statistics."""
    if joint:
        return embed(backbone, head, torch.cat(list(images))).chunk(len(images))
    return tuple(embed(backbone, head, view_NCHW) for view_NCHW in images)


def gathered(rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return each view's embeddings of all workers [B, D], with gradient."""
    return tuple(distributed.gather_with_gradient(row_ND) for row_ND in rows)


def contrast(pair: Sequence[Tensor], everyone: Sequence[Tensor], *, config: Config) -> Tensor:
    """Return this worker's NT-Xent of two views [N, D], reduced as `config` says; `everyone` is from `gathered`."""
    first = distributed.rank() * len(pair[0])
    loss = nt_xent(pair, everyone, first=first, temperature=config.temperature)
    return 2 * loss if config.reduction == "sum" else loss
