"""Transfer to another data set as its papers do it: one settings class a protocol, every default with its source.

Rates and weight decays form a grid. Each point is trained without the held-out images and scored on them; the best one
is trained again with them, and that network alone sees the test split.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leoclr.augment.views import TestView
from leoclr.data.contract import DataSet
from leoclr.evaluate.finetune_settings import MNIST, FineTuneSettings, Recipe
from leoclr.evaluate.splits import Task, choosing, draw_labels, with_validation


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings(Recipe):
    """Settings of a transfer; each default that papers decide is a protocol's below."""

    epochs: int | None = None  # length of one training, either in passes over its images
    steps: int | None = None  # or in steps
    lrs: tuple[float, ...]  # rates at the start, of the whole network
    weight_decays: tuple[float, ...] = (0.0,)  # each is divided by the rate: what is added to the gradient
    labels_pct: float = 100.0  # share of the training labels, 0..100; as many of each class
    valid_images: int | None = None  # held out of training; None: as the data set's papers do, else a tenth

    def __post_init__(self) -> None:
        if not self.lrs or min(self.lrs) <= 0:
            raise ValueError(f"lrs: {list(self.lrs)} are not positive rates")
        if not self.weight_decays or min(self.weight_decays) < 0:
            raise ValueError(f"weight_decays: {list(self.weight_decays)} are not numbers from 0 up")
        if not 0 < self.labels_pct <= 100:
            raise ValueError(f"labels_pct: {self.labels_pct} is not in 0..100")
        if self.valid_images is not None and self.valid_images <= 0:
            raise ValueError(f"valid_images: {self.valid_images} is not positive")
        self.training(self.points()[0])

    def points(self) -> list[dict[str, float]]:
        """Return the points of the grid: lr and weight_decay each, the latter not divided yet."""
        pairs = itertools.product(self.lrs, self.weight_decays)
        return [{"lr": lr, "weight_decay": decay} for lr, decay in pairs]

    def training(self, point: Mapping[str, float]) -> FineTuneSettings:
        """Return the training at one point of the grid."""
        shared: dict[str, Any] = self.shared()
        lr, decay = point["lr"], point["weight_decay"] / point["lr"]
        return FineTuneSettings(**shared, epochs=self.epochs, steps=self.steps, lr=lr, weight_decay=decay)

    def trial(self, data: DataSet, *, seed: int) -> Task:
        """Return the task on which the points compete; it has no test split."""
        chosen = draw_labels(data.splits["train"].labels, pct=self.labels_pct, seed=seed)
        return choosing(data, chosen, images=self.valid_images, seed=seed)

    def final(self, data: DataSet, *, seed: int) -> Task:
        """Return the task that is reported: training and validation images, scored on the test split."""
        whole = with_validation(data)
        return Task(data=whole, chosen=draw_labels(whole.splits["train"].labels, pct=self.labels_pct, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCLR(TransferSettings):
    """SimCLR B.8, "fine-tuning" (arXiv:2002.05709): 56 trainings chosen on validation images, and one more."""

    VERSION: ClassVar[int] = 1

    steps: int | None = 20_000
    batch: int = 256
    bn_momentum: Literal["fixed", "by_epoch"] = "by_epoch"
    lrs: tuple[float, ...] = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1)  # 7, evenly spaced in the logarithm
    weight_decays: tuple[float, ...] = (0.0, 1e-6, 3.16e-6, 1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3)  # 7 so spaced, and none


@dataclass(frozen=True, slots=True, kw_only=True)
class BYOL(SimCLR):
    """BYOL's (arXiv:2006.07733, appendix D): SimCLR's trainings and grid; its Table 10 says what is held out."""

    VERSION: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCLRScratch(SimCLR):
    """SimCLR B.8's baseline without pre-training: it is for the backbone of method `random`.

    B.8 does not say whether these decays are divided by the rate too; they are, as for fine-tuning.
    """

    VERSION: ClassVar[int] = 1

    steps: int | None = 40_000
    lrs: tuple[float, ...] = (1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1, 1.0)  # 7 from 0.001 to 1
    weight_decays: tuple[float, ...] = (1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2)  # to 10^-1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(TransferSettings):
    """No paper's: small enough for a CPU, for images of digits of 28 pixels; chosen by hand on held-out images."""

    VERSION: ClassVar[int] = 1

    view: TestView = MNIST
    epochs: int | None = 12
    batch: int = 60
    lrs: tuple[float, ...] = (0.1,)
    labels_pct: float = 10.0
    crop_scale: tuple[float, float] = (0.9, 1.0)  # smaller crops cut strokes off
    flip_p: float = 0.0  # a mirrored digit is another sign
