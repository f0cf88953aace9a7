"""Settings of fine-tuning: what the protocols share, and one training with every choice made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from leoclr import optim
from leoclr.augment.views import TestView

IMAGENET = TestView(resize=256, size=224)  # bilinear: torchvision's default, as SwAV and Barlow Twins have it
BICUBIC = TestView(resize=256, size=224, interpolation="bicubic")  # SimCLR B.8: 256 to 224; its data_util.py: bicubic
MNIST = TestView(resize=28, size=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What every training of a protocol has in common. Defaults: SimCLR (arXiv:2002.05709), B.5 and B.8."""

    view: TestView = BICUBIC  # of test and held-out images; training crops have its size
    batch: int = 256  # images of one step, over all workers (B.8); cut to the images at hand
    lr_images: int | None = (
        None  # rates are for so many images of a step and scale with the real batch; None: as written
    )
    momentum: float = 0.9  # B.5, B.8
    nesterov: bool = True  # B.5, B.8
    # Neither B.5 nor B.8 names a schedule; SimCLR's code has a cosine, moved every step, for all of its trainings:
    # https://github.com/google-research/simclr/blob/383d4143fd8cf7879ae10f1046a9baeb753ff438/model_util.py
    schedule: Literal["cosine", "cosine_by_epoch", "step", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()  # epochs at which the rate falls ("step" alone)
    decay: float = 0.1  # what it is multiplied by there
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the area; B.5, B.8: random crops as in ImageNet training
    flip_p: float = 0.5  # B.5, B.8; 0 where a mirror image has another meaning, as with digits
    # Weight of the newest batch in the running statistics of batch norm. "fixed": 0.1, torch's default and 1 - 0.9 of
    # simclr's run.py; "by_epoch": 1 - max(1 - 10 / s, 0.9) with s steps an epoch (B.8, in TensorFlow's convention).
    bn_momentum: Literal["fixed", "by_epoch"] = "fixed"

    def __post_init__(self) -> None:
        for name in ("batch", "decay"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.lr_images is not None and self.lr_images <= 0:
            raise ValueError(f"lr_images: {self.lr_images} is not positive")
        for name in ("momentum", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs a momentum above 0")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: {self.crop_scale} is not a rising pair in 0..1")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {self.milestones} do not rise")

    def shared(self) -> dict[str, object]:
        """Return the fields of `Recipe` alone, by name, to make a `FineTuneSettings` of."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneSettings(Recipe):
    """One training."""

    epochs: int | None = None  # passes over the training images; either this
    steps: int | None = None  # or this
    lr: float  # of the backbone, at the start
    head_lr: float | None = None  # of the new classifier; None: that of the backbone
    weight_decay: float = 0.0  # added to the gradient of all parameters

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("epochs: give epochs or steps, and not both")
        for name in ("epochs", "steps", "lr", "head_lr"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay: {self.weight_decay} is negative")

    def total(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole training."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch

    def base_lr(self, batch: int) -> float:
        """Return the rate of the backbone at the start, for the `batch` that is really used."""
        return self.lr if self.lr_images is None else self.lr * batch / self.lr_images

    def rate(self, step: int, *, steps_per_epoch: int, batch: int) -> float:
        """Return the learning rate of the backbone at `step` of the training."""
        lr, epoch = self.base_lr(batch), step // steps_per_epoch
        if self.schedule == "cosine":
            return optim.cosine(lr, step, total=self.total(steps_per_epoch))
        if self.schedule == "cosine_by_epoch":
            return optim.cosine(lr, epoch, total=-(-self.total(steps_per_epoch) // steps_per_epoch))
        if self.schedule == "step":
            return optim.step_decay(lr, epoch, milestones=self.milestones, factor=self.decay)
        return lr

    def batch_norm_momentum(self, steps_per_epoch: int) -> float:
        """Return the weight of the newest batch in the running statistics, as torch counts it.

        >>> FineTuneSettings(lr=1, steps=1, bn_momentum="by_epoch").batch_norm_momentum(400)
        0.025
        """
        return min(10 / steps_per_epoch, 0.1) if self.bn_momentum == "by_epoch" else 0.1
