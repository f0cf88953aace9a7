"""How a method is trained: length, batch, backbone, optimizer and learning rate. Light to import: a plan reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from leoclr import optim
from leoclr.evaluate.knn import KnnSettings

Optimizer = Literal["sgd", "lars", "lars_late", "larc"]
"""lars: SimCLR's, the rate inside the velocity; lars_late: BYOL's, Barlow Twins', VICReg's, outside; larc: SwAV's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """How a method is trained. Defaults: facebookresearch/moco, MoCo-v2 with 200 epochs (README and main_moco.py).

    A method whose paper trains it otherwise says so in its `RECIPE`, whose values are then the defaults.
    """

    epochs: int = 200
    batch: int = 256  # images of one step, over all workers
    # Passes that a step takes over equal parts of its batch, for memory; the whole batch at once, as main_moco.py does.
    # Batch norm sees a part. Refused where the loss compares the images of a batch
    accumulate: int = 1
    image_size: int = 224  # side of the largest view, pixels
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    width: int = 64  # channels of the first block; 64 is the published network
    stem: Literal["imagenet", "cifar", "stride2"] = "imagenet"  # "cifar": 3x3, no pooling; "stride2": 3x3 with stride 2
    zero_init_residual: bool = False  # each residual block starts as its shortcut: batch norm's last scale is 0
    sync_bn: bool = False  # batch norm sees the images of all workers; MoCo shuffles them instead
    optimizer: Optimizer = "sgd"
    lr: float = 0.03  # for the whole batch: scale it with `batch`
    vector_lr_scale: float = 1.0  # of biases and batch norm, as a share of `lr`
    sgd_momentum: float = 0.9  # of every optimizer here
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_vectors: bool = True  # decay biases and batch norm too, as main_moco.py does; the two LARS never do
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    rate_moves: Literal["epoch", "step"] = "epoch"  # once an epoch, as main_moco.py does, or every step
    milestones: tuple[int, ...] = (120, 160)  # epochs from which the rate is a tenth of what it was ("step" alone)
    warmup_epochs: int = 0  # the rate rises in a straight line
    warmup_start: float = 0.0  # share of `lr` at its first step
    final_lr: float = 0.0  # share of `lr` at which the cosine ends
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of the forward pass
    knn_every: int = 10  # epochs between two looks of the monitor; 0: at the end only
    knn: KnnSettings = field(default_factory=KnnSettings)

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "image_size", "width", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: {self.batch} images are not {self.accumulate} equal parts")
        for name in ("epochs", "warmup_epochs", "knn_every", "weight_decay", "vector_lr_scale"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leave nothing of {self.epochs} epochs")
        if not 0 <= self.sgd_momentum < 1:
            raise ValueError(f"sgd_momentum: {self.sgd_momentum} is not in 0..1")
        for name in ("warmup_start", "final_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share in 0..1")
        if self.nesterov and (self.sgd_momentum == 0 or self.optimizer not in ("sgd", "lars")):
            raise ValueError("nesterov: is for sgd and lars with a momentum above 0")

    def rate(self, position: float) -> float:
        """Return the learning rate at `position`, in epochs from the start: 2.5 is in the middle of the third."""
        at = position if self.rate_moves == "step" else math.floor(position)
        if self.schedule == "cosine":
            return optim.cosine(
                self.lr,
                at,
                total=self.epochs,
                warmup=self.warmup_epochs,
                start=self.warmup_start,
                end=self.final_lr,
            )
        warm = optim.warmup_factor(at, length=self.warmup_epochs, start=self.warmup_start)
        if self.schedule == "step":
            return warm * optim.step_decay(self.lr, at, milestones=self.milestones)
        return warm * self.lr
