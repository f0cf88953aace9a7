"""SPCL: contrast within a batch of pairs, whose images are known to be of one cluster or of two.

Mo, Sun, Li, BMVC 2021, arXiv:2208.08819. Before an epoch, k-means gives each image a cluster. A step then has N pairs
of images, two views of each: every view finds the other of its image (NT-Xent), a metric on features tells one cluster
from two, a classifier tells which cluster. Where the paper leaves a choice, the code decides, below "spcl":
https://github.com/stoneMo/SPCL/tree/357015dc0c0b3f6259a4aaca39851e01b28520b9

Of what that code does otherwise than its paper, these are taken for mistakes and not repeated. Its loader shuffles (a
sampler that draws with replacement, and balances true classes), so that the features it clusters are of other images
than those that get the clusters. Its survey leaves the encoder in evaluation mode: batch norm never learns. Its
classifier has `--n_classes` outputs, 10 by default, for 512 clusters. Its LARS adapts biases and batch norm too, where
a vector that starts at 0 stays there.

N pairs of one worker, M images of the data set, F feature values, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.clusters import cluster
from leoclr.heads import linear_head, mlp
from leoclr.losses import nt_xent
from leoclr.methods import contract, moco_v2
from leoclr.methods.augmentation import Augmentation
from leoclr.methods.contract import At, Batch, Facts, Group, Indices, Step, Survey, require
from leoclr.methods.simclr import gathered
from leoclr.pairs import Members
from leoclr.siamese import siamese_metric, symmetric_cross_entropy

TRAINS = True
WATCHES: tuple[str, ...] = (*moco_v2.WATCHES, "contrastive", "metric", "prototypical")
RECIPE: Mapping[str, Any] = {
    "epochs": 1000,  # spcl config.conf. No text of the paper that we could read says how many it has
    "batch": 512,  # pairs, so 1024 images; config.conf and the README's command. main.py: 256
    "optimizer": "lars",  # paper, section 4.1
    # Section 4.1, "an initial learning rate of 1.0". spcl optimisers.py scales by batch / 256, but train.py's warm-up
    # ends at the plain rate, from which the cosine goes on: of the scaled one only the prototypes hear.
    "lr": 1.0,
    "nesterov": True,  # optimisers.py, get_optimiser. Not in the paper
    "weight_decay": 1e-6,  # main.py
    "warmup_epochs": 10,  # section 4.1. Moves once an epoch, as in train.py: in the first, only the prototypes learn
    # sync_bn stays False: spcl has plain batch norm on each GPU
}
_STREAM = 1  # what an epoch draws besides its order of images, which is of (seed, epoch) alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of SPCL; the defaults are config.conf's, its augmentation the paper's ("the same" as SimCLR's).

    A loss of weight 0 is off (table 2). On CIFAR spcl has no blur (nor on STL-10), and a 3x3 stem without pooling. It
    jitters, turns gray and blurs before it crops; here the crop is first, as in SimCLR.

    Raises: ValueError naming the field whose value is out of range.
    """

    temperature: float = 0.5  # dimensionless, above 0; config.conf
    dim: int = 128  # values of an embedding; main.py, --proj_dim
    prototypes: int = 512  # clusters, at most the images; config.conf. The paper's number for ImageNet is lost to us
    whitened_dim: int = 256  # feature values left for k-means; clustering.py, preprocess_features
    cluster_iterations: int = 20  # of k-means; clustering.py, run_kmeans
    contrastive_weight: float = 1.0  # config.conf and main.py
    metric_weight: float = 1.0  # config.conf, and the paper's main row of table 2; main.py: 0.01
    prototype_weight: float = 1.0  # the same: config.conf and table 2; main.py: 0.01
    symmetric: bool = False  # symmetric cross-entropy for the clusters; section 4.3.1. main.py, --cluster_loss: CE
    symmetric_alpha: float = 0.1  # of its cross-entropy; train.py
    symmetric_beta: float = 1.0  # of its reverse cross-entropy; train.py
    prototype_lr_scale: float = 2.0  # of `lr`, in all epochs alike; train.py: lr * batch / 256, with a batch of 512

    # Augmentation: SimCLR's
    crop_scale: tuple[float, float] = (0.08, 1.0)  # spcl datasets.py: 0.008, but for CIFAR; we take it for a slip
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # datasets.py, jitter_d 1

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        require(self.temperature > 0, "temperature", "above 0")
        for field in ("dim", "whitened_dim", "cluster_iterations"):
            require(getattr(self, field) >= 1, field, "at least 1")
        require(self.prototypes >= 2, "prototypes", "at least 2: a pair may be of two clusters")
        for field in ("contrastive_weight", "metric_weight", "prototype_weight"):
            require(getattr(self, field) >= 0, field, "at least 0")
        for field in ("symmetric_alpha", "symmetric_beta"):
            require(getattr(self, field) >= 0, field, "at least 0")
        require(self.prototype_lr_scale > 0, "prototype_lr_scale", "above 0")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return two crops, drawn alike, of each image of a pair."""
    return (config.view(size), config.view(size))


class Method(contract.Method):
    """One encoder, trained through both views of both images of a pair.

    Its state besides weights: the cluster of each image, and the seed of the pairs, for an epoch that continues in its
    middle. Until the first epoch clusters are random.
    """

    clusters_M: Tensor
    seed: Tensor

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, heads and random clusters, drawn from torch's global generator."""
        super().__init__()
        require(config.prototypes <= facts.images, "prototypes", f"at most the number of images ({facts.images})")
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        sizes = (backbone.feature_dim, backbone.feature_dim, config.dim)
        self.head = mlp(sizes, hidden_bias=True, last_bias=True, last_norm="affine")
        for layer in self.head:
            if isinstance(layer, nn.Linear):  # spcl utils.py, init_weights
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        self.metric = linear_head(backbone.feature_dim, 1)
        self.prototypes = linear_head(backbone.feature_dim, config.prototypes)
        self.register_buffer("clusters_M", torch.randint(config.prototypes, (facts.images,)))
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self._members: Members | None = None
        self.register_load_state_dict_post_hook(_forget_members)  # type: ignore[no-untyped-call]  # torch's

    def start_epoch(self, survey: Survey) -> None:
        """Give each image a cluster, and draw the classifier of clusters anew: the old names mean nothing now.

        Clusters are those that worker 0 finds. Source: section 3.2 of arXiv:2208.08819; spcl train.py,
        pretrain_cluster_metric.
        """
        # spcl draws from numpy's global generator; from (seed, epoch), a stopped run continues with the same clusters.
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((survey.seed, survey.epoch, _STREAM))))
        with torch.no_grad():
            weight = self.prototypes.weight
            weight.copy_(torch.from_numpy(rng.normal(0.0, 0.01, tuple(weight.shape))))
            self.prototypes.bias.zero_()
        found_M = cluster(
            survey.features(survey.views[0]),
            count=self.config.prototypes,
            dim=self.config.whitened_dim,
            iterations=self.config.cluster_iterations,
            rng=rng,
        )
        self.clusters_M.copy_(distributed.gather(found_M)[: len(found_M)])
        self.seed.fill_(survey.seed % 2**63)
        self._members = None

    def choose(self, indices_N: Indices, at: At) -> Indices:
        """Return the first images [N], then their partners [N], of the pairs for the images that were drawn."""
        if self._members is None:
            self._members = Members.of(self.clusters_M.cpu().numpy())
        return np.concatenate(self._members.pairs(indices_N, seed=int(self.seed), epoch=at.epoch))

    def forward(self, batch: Batch) -> Step:
        """Return the weighted sum of the three losses of pairs: first images in the first half of the batch.

        Source: eqs. (2) to (5) of arXiv:2208.08819; spcl train.py, pretrain_cluster_metric. Four forward passes as
        there: batch norm sees the N images of one side and one view.
        """
        assert batch.images_N is not None
        halves = [view_NCHW.chunk(2) for view_NCHW in batch.views]
        first, partner = ([self.backbone(images_NCHW) for images_NCHW in side] for side in zip(*halves, strict=True))
        first_N, partner_N = self.clusters_M[batch.images_N].chunk(2)
        rows = [self._embed(first), self._embed(partner)]
        same_N = (first_N == partner_N).to(first[0].dtype)
        parts = {
            "contrastive": self._contrast(rows[0]) + self._contrast(rows[1]),
            "metric": siamese_metric((first[0], first[1]), (partner[0], partner[1]), same_N, measure=self.metric),
            "prototypical": self._classify(first, first_N) + self._classify(partner, partner_N),
        }
        config = self.config
        weights = (config.contrastive_weight, config.metric_weight, config.prototype_weight)
        loss = torch.stack([weight * part for weight, part in zip(weights, parts.values(), strict=True)]).sum()
        watched = tuple((name, part.detach()) for name, part in parts.items())
        return Step(loss=loss, watch=(*moco_v2.watch(rows[0][0], rows[0][1:]), *watched))

    def groups(self) -> Sequence[Group]:
        """Return what the recipe trains, and the prototypes, which take plain steps at a rate of their own.

        Their decay of 1e-6 (spcl train.py, optimizer_cls) is left out: they live for an epoch.
        """
        prototypes = list(self.prototypes.parameters())
        own = {id(parameter) for parameter in prototypes}
        rest = [each for each in self.parameters() if each.requires_grad and id(each) not in own]
        scale = self.config.prototype_lr_scale
        return [
            {"params": rest},
            {"params": prototypes, "lr_scale": scale, "fixed_rate": True, "momentum": 0.0, "plain": True},
        ]

    def _embed(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [functional.normalize(self.head(features_NF), dim=1) for features_NF in features]

    def _contrast(self, rows: Sequence[Tensor]) -> Tensor:
        first = distributed.rank() * len(rows[0])
        return nt_xent(rows, gathered(rows), first=first, temperature=self.config.temperature)

    def _classify(self, features: Sequence[Tensor], clusters_N: Tensor) -> Tensor:
        return torch.stack([self._cross_entropy(self.prototypes(each_NF), clusters_N) for each_NF in features]).sum()

    def _cross_entropy(self, scores_NK: Tensor, clusters_N: Tensor) -> Tensor:
        if not self.config.symmetric:
            return functional.cross_entropy(scores_NK, clusters_N)
        alpha, beta = self.config.symmetric_alpha, self.config.symmetric_beta
        return symmetric_cross_entropy(scores_NK, clusters_N, alpha=alpha, beta=beta)


def _forget_members(method: nn.Module, _keys: object) -> None:
    assert isinstance(method, Method)
    method._members = None
