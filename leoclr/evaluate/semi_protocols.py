"""Semi-supervised evaluation as its papers do it: one settings class a protocol, every default with its source.

The whole network is fine-tuned on shares of the labels, one share after another. Where a paper sweeps rates or lengths,
each share has its own grid, chosen on training images that are held out of the grid's trainings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from leoclr.augment.views import TestView
from leoclr.data.contract import DataError, DataSet
from leoclr.data.label_lists import FOLDER
from leoclr.evaluate.finetune_settings import IMAGENET, MNIST, FineTuneSettings, Recipe
from leoclr.evaluate.splits import Task, choosing, draw_labels, published_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class SemiSupervisedSettings(Recipe):
    """Settings of a semi-supervised evaluation; each default that papers decide is a protocol's below.

    Papers give one recipe for 1 % and one for 10 %. Fields named `few_` are for shares below `few_below` percent, the
    others from there on; that shares in between take the nearer paper's recipe downwards is this project's choice.
    """

    percents: tuple[float, ...] = (1.0, 10.0)  # shares of the labels; SimCLR B.5, and every table since
    # "auto": the published ImageNet lists where the data set's folder has them, else a draw of each class.
    lists: Literal["auto", "published", "draw"] = "auto"
    few_below: float = 10.0
    epochs: tuple[int, ...]  # several values of epochs or rates form a grid
    few_epochs: tuple[int, ...]
    lrs: tuple[float, ...]  # of the backbone, at the start
    few_lrs: tuple[float, ...]
    head_lr: float | None = None  # of the new classifier; None: that of the backbone
    few_head_lr: float | None = None
    few_batch: int | None = None  # None: as `batch`
    valid_images: int | None = None  # held out where there is a grid; None: as the data set's papers do, else a tenth

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        if not self.percents or len(set(self.percents)) < len(self.percents):
            raise ValueError(f"percents: {list(self.percents)} are not different shares")
        if not all(0 < percent <= 100 for percent in self.percents):
            raise ValueError(f"percents: {list(self.percents)} are not in 0..100")
        for name in ("epochs", "few_epochs", "lrs", "few_lrs"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: {list(getattr(self, name))} are not positive")
        for name in ("head_lr", "few_head_lr", "few_batch", "valid_images"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")

    def points(self, percent: float) -> list[dict[str, float]]:
        """Return the points of the grid of one share: lr and epochs each."""
        few = percent < self.few_below
        lrs, epochs = (self.few_lrs, self.few_epochs) if few else (self.lrs, self.epochs)
        return [{"lr": lr, "epochs": length} for lr, length in itertools.product(lrs, epochs)]

    def training(self, percent: float, point: Mapping[str, float]) -> FineTuneSettings:
        """Return the training with one share of the labels at one point of its grid."""
        few = percent < self.few_below
        shared: dict[str, Any] = self.shared()
        if few and self.few_batch is not None:
            shared["batch"] = self.few_batch
        head_lr = self.few_head_lr if few else self.head_lr
        return FineTuneSettings(**shared, epochs=int(point["epochs"]), lr=point["lr"], head_lr=head_lr)

    def final(self, data: DataSet, percent: float, *, root: Path, seed: int) -> Task:
        """Return the task that is reported for one share; `root` is the data set's folder.

        Raises: DataError when a list is wrong, or `lists` is "published" and there is none for this share.
        """
        train = data.splits["train"]
        listed = None if self.lists == "draw" else published_labels(train, pct=percent, root=root)
        if listed is None and self.lists == "published":
            hint = "put 1percent.txt and 10percent.txt of google-research/simclr there, or set lists: draw"
            raise DataError(f"{root / FOLDER}: no published list of {percent:g} % of the labels", hint=hint)
        chosen = draw_labels(train.labels, pct=percent, seed=seed) if listed is None else listed
        return Task(data=data, chosen=chosen, facts={"published_list": float(listed is not None)})

    def trial(self, data: DataSet, percent: float, *, root: Path, seed: int) -> Task:
        """Return the task on which the points of one share compete; it has no test split."""
        whole = self.final(data, percent, root=root, seed=seed)
        held = choosing(data, whole.chosen, images=self.valid_images, seed=seed)
        return dataclasses.replace(held, facts=whole.facts)


def group(percent: float) -> str:
    """Return the name of a share, which begins its numbers' names.

    >>> group(1.0), group(0.5)
    ('labels_1', 'labels_0.5')
    """
    return f"labels_{percent:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCLR(SemiSupervisedSettings):
    """SimCLR B.5 (arXiv:2002.05709): no warm-up, no regularization, one rate.

    Its code's README fine-tunes SimCLRv2 otherwise (LARS, 0.005 by the root of the batch); B.5 is what tables cite.
    """

    VERSION: ClassVar[int] = 1

    batch: int = 4096
    lrs: tuple[float, ...] = (0.05,)  # 0.05 * batch / 256; a batch cut to few images has the rate of its real size
    few_lrs: tuple[float, ...] = (0.05,)
    lr_images: int | None = 256
    epochs: tuple[int, ...] = (30,)  # with 10 %; the LeOCLR paper says the same of its own (section 4)
    few_epochs: tuple[int, ...] = (60,)  # with 1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class BYOL(SemiSupervisedSettings):
    """BYOL C.1 (arXiv:2006.07733): the rate and the length chosen on validation images; no regularization.

    It does not say how the validation images relate to the share: here they are drawn from the whole training split,
    left out of the grid's trainings, and in the share again for the last one.
    """

    VERSION: ClassVar[int] = 1

    batch: int = 1024
    lrs: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)
    few_lrs: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)
    epochs: tuple[int, ...] = (30, 50)
    few_epochs: tuple[int, ...] = (30, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwAV(SemiSupervisedSettings):
    """SwAV's eval_semisup.py and the commands of its README; the rates are for 8 GPUs of 32 images.

    https://github.com/facebookresearch/swav/blob/06b1b7cbaf6ba2a792300d79c7299db98b93b7f9/eval_semisup.py
    It reports the best epoch on the test images; here the last one counts. It synchronizes batch norm between GPUs.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = IMAGENET
    batch: int = 256  # 32 a GPU, 8 GPUs
    nesterov: bool = False
    schedule: Literal["cosine", "cosine_by_epoch", "step", "constant"] = "step"
    milestones: tuple[int, ...] = (12, 16)
    decay: float = 0.2
    epochs: tuple[int, ...] = (20,)
    few_epochs: tuple[int, ...] = (20,)
    lrs: tuple[float, ...] = (0.01,)
    few_lrs: tuple[float, ...] = (0.02,)
    head_lr: float | None = 0.2
    few_head_lr: float | None = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BarlowTwins(SemiSupervisedSettings):
    """Barlow Twins' evaluate.py and the command of its README, which is for 1 %; it is taken for every share.

    https://github.com/facebookresearch/barlowtwins/blob/8e8d284ca0bc02f88b92328e53f9b901e86b4a3c/evaluate.py
    It reports the best epoch on the test images; here the last one counts.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = IMAGENET
    batch: int = 256
    nesterov: bool = False
    schedule: Literal["cosine", "cosine_by_epoch", "step", "constant"] = "cosine_by_epoch"
    epochs: tuple[int, ...] = (20,)
    few_epochs: tuple[int, ...] = (20,)
    lrs: tuple[float, ...] = (0.005,)
    few_lrs: tuple[float, ...] = (0.005,)
    head_lr: float | None = 0.5
    few_head_lr: float | None = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(SemiSupervisedSettings):
    """No paper's: small enough for a CPU, for images of digits of 28 pixels; chosen by hand on held-out images."""

    VERSION: ClassVar[int] = 1

    view: TestView = MNIST
    epochs: tuple[int, ...] = (6,)
    few_epochs: tuple[int, ...] = (30,)
    batch: int = 50
    few_batch: int | None = 40
    lrs: tuple[float, ...] = (0.1,)
    few_lrs: tuple[float, ...] = (0.1,)
    crop_scale: tuple[float, float] = (0.9, 1.0)  # smaller crops cut strokes off
    flip_p: float = 0.0  # a mirrored digit is another sign
