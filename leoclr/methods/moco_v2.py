"""MoCo-v2: each image's crop finds another crop of the same image among the keys of a queue.

Chen, Fan, Girshick, He 2020, arXiv:2003.04297, on He et al. 2020, arXiv:1911.05722. Where the papers leave a choice,
the code decides: https://github.com/facebookresearch/moco/tree/4397a04ed63a95c4a157f017a71883944003b615, below "moco".

N images of one worker's batch, D embedding values, K keys in the queue, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import Projection, embed, projection
from leoclr.levels import Levels
from leoclr.losses import info_nce, spread
from leoclr.methods import contract
from leoclr.methods.augmentation import Augmentation
from leoclr.methods.contract import At, Batch, Facts, Step, require
from leoclr.momentum import SlowEncoder
from leoclr.queue import Queue
from leoclr.split_norm import split_batchnorm

TRAINS = True
WATCHES: tuple[str, ...] = ("positive_similarity", "query_spread")
RECIPE: Mapping[str, Any] = {}  # the defaults of PretrainSettings are MoCo-v2's

ShuffleAs = Literal["uint8", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of MoCo-v2; the defaults are its ImageNet recipe, `--mlp --moco-t 0.2 --aug-plus`.

    Raises: ValueError naming the field whose value is out of range.
    """

    temperature: float = 0.2  # dimensionless, above 0; moco README, v2 command (v1: 0.07)
    momentum: float = 0.999  # of the slow encoder per step, 0..1; moco/builder.py
    queue_size: int = 65536  # keys; moco/builder.py. Smaller for small data: 4096 in moco's CIFAR-10 demo
    dim: int = 128  # values of an embedding; moco/builder.py
    head: Projection = "mlp"  # moco README, v2 command (v1: "linear")
    shuffle_bn: bool = True  # spread the key images over the workers; moco/builder.py. Alone: only with bn_splits
    # How key images travel to other workers. "uint8": rounded to the 256 levels that moco's own views have, which PIL
    # makes (main_moco.py, ToTensor comes last), in a quarter of the bytes. "float32": as they are. Alone, none travels
    shuffle_as: ShuffleAs = "uint8"
    bn_splits: int = 1  # parts of a worker's batch, each with its own batch norm; 8 in moco's CIFAR-10 demo, on one GPU

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        require(self.temperature > 0, "temperature", "above 0")
        require(0 <= self.momentum <= 1, "momentum", "from 0 to 1")
        require(self.queue_size >= 1, "queue_size", "at least 1")
        require(self.dim >= 1, "dim", "at least 1")
        require(self.bn_splits >= 1, "bn_splits", "at least 1")
        require(self.shuffle_as in get_args(ShuffleAs), "shuffle_as", f"one of {', '.join(get_args(ShuffleAs))}")
        require(self.head in get_args(Projection), "head", f"one of {', '.join(get_args(Projection))}")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the query's crop and the key's crop, drawn alike."""
    return (config.view(size), config.view(size))


class Method(contract.Method):
    """Momentum contrast: a trained encoder makes queries, its slow copy makes keys, a queue holds earlier keys.

    `forward` leaves queue and slow parameters alone; in training mode it moves batch-norm statistics, the slow
    encoder's too (see `SlowEncoder`).
    """

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, its copy, and a queue of random keys, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        if config.bn_splits > 1:
            split_batchnorm(backbone, config.bn_splits)
        self.backbone = backbone
        self.head = projection(backbone.feature_dim, config.dim, kind=config.head)
        self.slow = SlowEncoder(
            backbone,
            self.head,
            momentum=config.momentum,
            shuffle_bn=config.shuffle_bn,
            bn_splits=config.bn_splits,
            levels=Levels(facts.mean, facts.std) if config.shuffle_as == "uint8" else None,
        )
        self.queue = Queue(config.queue_size, config.dim)

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return "": a query meets its own key and the queue's."""
        return ""

    def forward(self, batch: Batch) -> Step:
        """Return the mean loss in nats of finding view 1's key by view 0's query, and that key.

        Source: eq. (1) of arXiv:1911.05722.
        """
        query_NCHW, key_NCHW = batch.views
        query_ND = embed(self.backbone, self.head, query_NCHW)
        key_ND = self.slow(key_NCHW, view=0)
        loss = info_nce(query_ND, key_ND, self.queue.keys_KD, temperature=self.config.temperature)
        return Step(loss=loss, keys=(key_ND,), watch=watch(query_ND, (key_ND,)))

    def before_step(self, at: At) -> None:
        """Move the slow encoder towards the trained one.

        moco does so between the query's forward pass and the key's; the query does not depend on it.
        """
        self.slow.update(self.backbone, self.head, step=at.step)

    def update(self, step: Step) -> None:
        """Push the step's keys of all workers, in the order of `step.keys`, then of rank."""
        for key_ND in step.keys:
            self.queue.push(distributed.gather(key_ND))


@torch.no_grad()
def watch(query_ND: Tensor, keys: Sequence[Tensor]) -> tuple[tuple[str, Tensor], ...]:
    """Return what tells a healthy run: the mean cosine of positive pairs, and the spread of queries (0: collapsed)."""
    cosines = [(query_ND * key_ND).sum(dim=1).mean() for key_ND in keys]
    return (("positive_similarity", sum(cosines[1:], cosines[0]) / len(cosines)), ("query_spread", spread(query_ND)))
