"""SwAV: each view predicts to which prototypes another view of its image was assigned.

Caron et al. 2020, arXiv:2006.09882. Where the paper leaves a choice, the code decides, below "swav":
https://github.com/facebookresearch/swav/tree/06b1b7cbaf6ba2a792300d79c7299db98b93b7f9

N images of one worker's batch, V views, D embedding values, P prototypes, K embeddings in a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import mlp
from leoclr.losses import spread
from leoclr.methods import contract
from leoclr.methods.augmentation import Augmentation, require_shares
from leoclr.methods.contract import At, Batch, Facts, Step, require
from leoclr.multicrop import features, sinkhorn
from leoclr.queue import Queue

TRAINS = True
WATCHES: tuple[str, ...] = ("query_spread", "assignment_entropy")
RECIPE: Mapping[str, Any] = {  # swav scripts/swav_800ep_pretrain.sh
    "epochs": 800,
    "batch": 4096,  # 64 on each of 64 GPUs
    "optimizer": "larc",
    "lr": 4.8,
    "weight_decay": 1e-6,
    "rate_moves": "step",
    "warmup_epochs": 10,
    "warmup_start": 0.0625,  # 0.3 / 4.8
    "final_lr": 0.001,  # 0.0048 / 4.8
    "sync_bn": True,  # over groups of 8 GPUs there, over all workers here
}

ASSIGNED = 2  # views that are assigned to prototypes, the large ones; swav --crops_for_assign 0 1
SMALL_SHARE = 96 / 224  # side of a small crop by that of a large one; swav --size_crops 224 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of SwAV; the defaults are its ImageNet recipe with 800 epochs.

    Raises: ValueError naming the field whose value is out of range.
    """

    temperature: float = 0.1  # dimensionless, above 0; swav --temperature
    epsilon: float = 0.05  # softness of the assignment, above 0; swav --epsilon
    iterations: int = 3  # of Sinkhorn and Knopp; swav --sinkhorn_iterations
    prototypes: int = 3000  # swav --nmb_prototypes
    freeze_steps: int = 313  # the prototypes rest so long at the start; swav: an epoch of ImageNet at batch 4096
    queue_size: int = 0  # earlier embeddings that are assigned too; 3840 for batches of 256 (swav_200ep_bs256)
    queue_from: int = 15  # epoch from which the queue is filled; swav --epoch_queue_starts
    hidden_dim: int = 2048  # of the head; swav --hidden_mlp
    dim: int = 128  # values of an embedding; swav --feat_dim
    small_crops: int = 6  # swav --nmb_crops 2 6

    # Augmentation: swav src/multicropdataset.py
    crop_scale: tuple[float, float] = (0.14, 1.0)  # of the two large crops
    small_crop_scale: tuple[float, float] = (0.05, 0.14)
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        require_shares(self.small_crop_scale, "small_crop_scale")
        require(self.temperature > 0, "temperature", "above 0")
        require(self.epsilon > 0, "epsilon", "above 0")
        for field in ("iterations", "prototypes", "hidden_dim", "dim"):
            require(getattr(self, field) >= 1, field, "at least 1")
        for field in ("freeze_steps", "queue_size", "queue_from", "small_crops"):
            require(getattr(self, field) >= 0, field, "at least 0")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return two large crops, then the small ones."""
    large = config.view(size)
    small = replace(large, size=max(1, round(size * SMALL_SHARE)), crop_scale=config.small_crop_scale)
    return (large,) * ASSIGNED + (small,) * config.small_crops


class Method(contract.Method):
    """One encoder and a layer of prototypes; for small batches, a queue of earlier embeddings of each large view."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, head and prototypes, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = mlp((backbone.feature_dim, config.hidden_dim, config.dim), hidden_bias=True, last_bias=True)
        self.prototypes = nn.Linear(config.dim, config.prototypes, bias=False)
        queues = [Queue(config.queue_size, config.dim) for _ in range(ASSIGNED)] if config.queue_size else []
        self.queues = nn.ModuleList(queues)
        self._at = At(0, 1, 0, 1)

    def forward(self, batch: Batch) -> Step:
        """Return the mean cross-entropy in nats between assignments of the large views and predictions of the others.

        Source: eq. (1) and (2) of arXiv:2006.09882, and eq. (6) of its appendix for small crops; swav main_swav.py.
        """
        embeddings_XD = functional.normalize(self.head(features(self.backbone, batch.views)), dim=1)
        embeddings = embeddings_XD.chunk(len(batch.views))
        scores = self.prototypes(embeddings_XD).chunk(len(batch.views))
        keys = tuple(embedding_ND.detach() for embedding_ND in embeddings[:ASSIGNED])
        predictions = [(scores_NP / self.config.temperature).log_softmax(dim=1) for scores_NP in scores]
        terms = []
        for view in range(ASSIGNED):
            target_NP = self._assign(view, scores[view].detach())
            others = [log_NP for other, log_NP in enumerate(predictions) if other != view]
            terms += [-(target_NP * log_NP).sum(dim=1).mean() for log_NP in others]
        loss = torch.stack(terms).mean()
        entropy = -target_NP.xlogy(target_NP).sum(dim=1).mean()
        return Step(loss, keys, watch=(("query_spread", spread(keys[0])), ("assignment_entropy", entropy)))

    def before_step(self, at: At) -> None:
        """Scale the prototypes to unit length. Source: swav main_swav.py, "normalize the prototypes"."""
        self._at = at
        with torch.no_grad():
            self.prototypes.weight.copy_(functional.normalize(self.prototypes.weight, dim=1))

    def after_backward(self, at: At) -> None:
        """Hold the prototypes still at the start."""
        if at.step < self.config.freeze_steps:
            self.prototypes.weight.grad = None

    def update(self, step: Step) -> None:
        """Push the large views' embeddings of all workers, from the epoch on from which the queue is filled."""
        if self._at.epoch >= self.config.queue_from:
            for view, key_ND in enumerate(step.keys[: len(self.queues)]):  # there may be no queues
                self._queue(view).push(distributed.gather(key_ND))

    @torch.no_grad()
    def _assign(self, view: int, scores_NP: Tensor) -> Tensor:
        """Return the assignment [N, P] of a large view, balanced over all workers' images and the queue, once full."""
        rows_MP = scores_NP
        if len(self.queues) and self._is_full(len(scores_NP)):
            stored_KD = self._queue(view).keys_KD.tensor_split(distributed.world_size())[distributed.rank()]
            rows_MP = torch.cat([stored_KD @ self.prototypes.weight.T, scores_NP])
        assigned_MP = sinkhorn(rows_MP, epsilon=self.config.epsilon, iterations=self.config.iterations)
        return assigned_MP[-len(scores_NP) :]

    def _queue(self, view: int) -> Queue:
        return cast(Queue, self.queues[view])

    def _is_full(self, images: int) -> bool:
        """Return whether the queue holds nothing but pushed embeddings; known without asking the device."""
        at = self._at
        pushes = at.step - self.config.queue_from * (at.total // at.epochs)
        return pushes * images * distributed.world_size() >= self.config.queue_size
