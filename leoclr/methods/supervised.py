"""The supervised baseline: cross-entropy of a linear classifier, backbone and all.

Goyal et al. 2017, arXiv:1706.02677, section 5.1 (ResNet-50 on ImageNet, batch 256), and
https://github.com/pytorch/examples/blob/main/imagenet/main.py, below "examples".

N images of one worker's batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import linear_head
from leoclr.methods import contract
from leoclr.methods.augmentation import Augmentation
from leoclr.methods.contract import Batch, Facts, Step

TRAINS = True
WATCHES: tuple[str, ...] = ("train_top1",)
RECIPE: Mapping[str, Any] = {
    "epochs": 90,  # section 5.1; examples
    "lr": 0.1,  # for a batch of 256: section 5.1; examples
    "schedule": "step",
    "milestones": (30, 60, 80),  # section 5.1. examples: StepLR(step_size=30), that is 30 and 60; we follow the paper
}  # decay of 1e-4 on all parameters: examples. The paper spares batch norm's: decay_vectors=False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Augmentation):
    """Settings of supervised training: how its images are augmented, by a random crop and a flip alone in both sources.

    Raises: ValueError naming the field whose value is out of range.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)  # default of torchvision's RandomResizedCrop; examples
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return one random crop."""
    return (config.view(size),)


class Method(contract.Method):
    """A backbone and a linear classifier, trained together on the labeled images."""

    READS_CLASSES: ClassVar[bool] = True

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and a classifier from N(0, 0.01), as in section 5.1 of the paper."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = linear_head(backbone.feature_dim, facts.classes)

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return "": each image's cross-entropy is its own."""
        return ""

    def forward(self, batch: Batch) -> Step:
        """Return the mean cross-entropy in nats. Raises: ValueError without classes."""
        if batch.classes_N is None:
            raise ValueError("classes_N: the supervised baseline needs the class of each image")
        (images_NCHW,) = batch.views
        scores_NC: Tensor = self.head(self.backbone(images_NCHW))
        right_N = scores_NC.detach().argmax(dim=1) == batch.classes_N
        watch = (("train_top1", 100.0 * right_N.float().mean()),)
        return Step(loss=functional.cross_entropy(scores_NC, batch.classes_N), watch=watch)
