"""SimSiam: a network predicts its own embedding of another view of the image, whose gradient is stopped.

Chen and He 2021, arXiv:2011.10566. Where the paper leaves a choice, the code decides:
https://github.com/facebookresearch/simsiam/tree/a7bc1772896d0dad0806c51f0bb6f3b16d290468, below "simsiam".

N images of one worker's batch, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import mlp
from leoclr.losses import spread
from leoclr.methods import contract
from leoclr.methods.augmentation import Augmentation
from leoclr.methods.contract import Batch, Facts, Group, Step, require
from leoclr.prediction import negative_cosine

TRAINS = True
WATCHES: tuple[str, ...] = ("positive_similarity", "embedding_spread")
RECIPE: Mapping[str, Any] = {
    "epochs": 100,  # simsiam/main_simsiam.py and most tables; table 4 has 100, 200, 400 and 800 with the same recipe
    "batch": 512,  # section 3, "Optimizer"; main_simsiam.py
    "lr": 0.1,  # 0.05 * 512 / 256; the same. Decay 1e-4 for all parameters and a cosine by epochs: as MoCo-v2
    "sync_bn": True,  # section 3; main_simsiam.py
    "zero_init_residual": True,  # simsiam/builder.py
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of SimSiam; the defaults are its ImageNet recipe, whose augmentation is MoCo-v2's (main_simsiam.py).

    Raises: ValueError naming the field whose value is out of range.
    """

    dim: int = 2048  # values of an embedding; simsiam/builder.py
    predictor_dim: int = 512  # of the predictor's hidden layer, a bottleneck; simsiam/builder.py
    projector_layers: int = 3  # hidden ones as wide as the features; simsiam/builder.py. 2 for CIFAR-10 (appendix D)
    constant_predictor_rate: bool = True  # README's --fix-pred-lr: 68.1 against 67.7 (table 1); main_simsiam.py: False

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        for field in ("dim", "predictor_dim", "projector_layers"):
            require(getattr(self, field) >= 1, field, "at least 1")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the two crops, drawn alike; each is predicted from the other."""
    return (config.view(size), config.view(size))


class Method(contract.Method):
    """One network, two views: prediction of one, stopped embedding of the other, and the other way round."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and new heads, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        sizes = [backbone.feature_dim] * config.projector_layers + [config.dim]
        # builder.py keeps a bias in the last layer, without training it: the batch norm behind takes it away again.
        self.head = mlp(sizes, hidden_bias=False, last_bias=False, last_norm="plain")
        self.predictor = mlp((config.dim, config.predictor_dim, config.dim), hidden_bias=False, last_bias=True)

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return "": each image's cosine is its own."""
        return ""

    def forward(self, batch: Batch) -> Step:
        """Return half the sum over both directions of minus the mean cosine, from -1 to 1.

        Source: eq. (2) of arXiv:2011.10566.
        """
        embeddings = [self.head(self.backbone(view_NCHW)) for view_NCHW in batch.views]
        predictions = [self.predictor(embedding_ND) for embedding_ND in embeddings]
        targets = [embedding_ND.detach() for embedding_ND in reversed(embeddings)]
        terms = [negative_cosine(*pair) for pair in zip(predictions, targets, strict=True)]
        loss = torch.stack(terms).mean()
        even = spread(functional.normalize(targets[0], dim=1))
        return Step(loss=loss, watch=(("positive_similarity", -loss.detach()), ("embedding_spread", even)))

    def groups(self) -> Sequence[Group]:
        """Return backbone and projector, then the predictor, whose rate the schedule leaves alone (table 1, line c)."""
        encoder = [*self.backbone.parameters(), *self.head.parameters()]
        predictor = list(self.predictor.parameters())
        return ({"params": encoder}, {"params": predictor, "fixed_rate": self.config.constant_predictor_rate})
