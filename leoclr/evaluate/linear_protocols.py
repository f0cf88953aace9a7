"""Linear evaluation as its papers do it: one settings class a protocol, every default with its source.

A linear classifier is trained on the features of a frozen backbone; what differs is rate, schedule, length, initial
weights and how a rate is chosen. Numbers under two protocols can differ by more than two methods do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from leoclr import optim
from leoclr.augment.views import TestView
from leoclr.evaluate.folded import Precision
from leoclr.evaluate.validation import HoldOut

IMAGENET = TestView(resize=256, size=224)  # bilinear: torchvision's default, as facebookresearch/moco has it
BICUBIC = TestView(resize=256, size=224, interpolation="bicubic")  # as TensorFlow's recipes have it
RANDOM_CROP = TestView(resize=256, size=224, keep_ratio=False, crop="random_resized", interpolation="bicubic")
TRANSFER = TestView(resize=224, size=224, interpolation="bicubic")
MNIST = TestView(resize=28, size=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSettings:
    """Settings of a classifier trained by SGD; the defaults here are those that MoCo's `main_lincls.py` also has."""

    view: TestView = IMAGENET  # of test and held-out images; training crops have its size
    epochs: int = 100  # passes over the training images
    batch: int = 256  # images of one step, over all workers; cut to the training split
    lrs: tuple[float, ...] = (30.0,)  # several: one classifier each in the same pass, chosen on held-out images
    lr_images: int | None = None  # the rates are for so many images of a step and scale with them; None: as written
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["step", "cosine"] = "step"
    rate_moves: Literal["epoch", "step"] = "epoch"  # when the rate is set anew
    milestones: tuple[int, ...] = (60, 80)  # epochs from which the rate is a tenth of what it was ("step" alone)
    final_lr: float = 0.0  # where a cosine ends; below the smallest rate
    init: Literal["normal", "zeros", "fan_in"] = "normal"  # of the weights; see `leoclr.evaluate.classifiers`
    augment: Literal["crop_flip", "none"] = "crop_flip"  # "none": each image's features are computed once: it is fast
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the area; torchvision's default, in every source below
    flip_p: float = 0.5  # 0 where a mirror image has another meaning, as with digits
    standardize: bool = False  # features to mean 0, variance 1 over the training images: one rate fits all backbones
    hold_out: HoldOut = "balanced"  # which training images choose among several rates
    valid_images: int | None = None  # how many; None: as the data set's papers do, else a tenth
    refit: bool = True  # train the chosen rate again, held-out images included
    random_crop_view: TestView | None = None  # score the test split under this view too
    precision: Precision = "fp32"  # of the backbone; every source below: float32

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if not self.lrs or min(self.lrs) <= 0 or len(set(self.lrs)) < len(self.lrs):
            raise ValueError(f"lrs: {list(self.lrs)} are not different positive rates")
        for name in ("lr_images", "valid_images"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("momentum", "weight_decay", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: it needs a momentum above 0")
        if not 0 <= self.final_lr < min(self.lrs):
            raise ValueError(f"final_lr: {self.final_lr} is not below the smallest rate")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: {self.crop_scale} is not a rising pair in 0..1")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {self.milestones} do not rise")

    @property
    def chooses(self) -> bool:
        """Whether there is a rate to choose, so that training images must be held out."""
        return len(self.lrs) > 1

    def rate(self, lr: float, position: float, *, batch: int) -> float:
        """Return the rate at `position`, in epochs and their fractions, for one of `lrs` and the real `batch`."""
        if self.lr_images is not None:
            lr = lr * batch / self.lr_images
        if self.schedule == "cosine":
            return self.final_lr + optim.cosine(lr - self.final_lr, position, total=self.epochs)
        return optim.step_decay(lr, position, milestones=self.milestones)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoCo(LinearSettings):
    """MoCo's: a rate of 30 for features that no batch norm or projection has scaled.

    Source: facebookresearch/moco, README.md ("Linear Classification") and main_lincls.py; He et al. 2020,
    arXiv:1911.05722, section 4.1. Weights N(0, 0.01), no decay, batch norm frozen: all as `LinearSettings`.
    """

    VERSION: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LeOCLRTable6(LinearSettings):
    """MoCo's, and the test split also under random crops: "random_crop_top1" beside "top1".

    Source: LeOCLR, arXiv:2403.06813, section 5 and table 6. Its linear rate is not stated: MoCo's.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = BICUBIC  # section 5: "256 pixels along the shorter side using bicubic resampling", center 224
    # Section 5: "resized to 256 x 256 but randomly cropped and resized to 224 x 224"; scale and ratio of the crop are
    # not stated: those of torchvision's RandomResizedCrop.
    random_crop_view: TestView | None = RANDOM_CROP


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCLR(LinearSettings):
    """SimCLR's: Nesterov momentum, a rate that scales with the batch, no warm-up, no decay.

    Source: Chen et al. 2020, arXiv:2002.05709, B.6; google-research/simclr, README.md, run.py, model.py, model_util.py.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = BICUBIC  # data_util.py, center_crop
    epochs: int = 90  # B.6, and README.md for ImageNet
    batch: int = 4096  # B.6
    lrs: tuple[float, ...] = (0.1,)  # B.6: 0.1 x batch / 256 = 1.6
    lr_images: int | None = 256
    nesterov: bool = True  # B.6; model_util.py, MomentumOptimizer(use_nesterov=True)
    weight_decay: float = 0.0  # B.6: no regularization; its README's ImageNet command: 1e-6; we follow the paper
    schedule: Literal["step", "cosine"] = "cosine"  # B.6 says none; model_util.py, learning_rate_schedule
    rate_moves: Literal["epoch", "step"] = "step"  # the same function
    init: Literal["normal", "zeros", "fan_in"] = "zeros"  # README.md: --zero_init_logits_layer=True; paper: not stated


@dataclass(frozen=True, slots=True, kw_only=True)
class BYOL(LinearSettings):
    """BYOL's: five rates, the best on held-out training images, the test split read once.

    Source: Grill et al. 2020, arXiv:2006.07733, C.1; google-deepmind/deepmind-research, byol/configs/eval.py,
    byol/eval_experiment.py, byol/utils/{schedules,dataset}.py.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = BICUBIC  # C.1
    epochs: int = 80  # C.1; eval.py
    batch: int = 1024  # C.1
    lrs: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)  # C.1; eval.py has 0.2 alone
    lr_images: int | None = 256  # C.1 says nothing; schedules.py: rate x batch / 256; we follow the code
    nesterov: bool = True  # C.1
    schedule: Literal["step", "cosine"] = "cosine"  # schedules.py, without warm-up (eval.py); C.1: not stated
    rate_moves: Literal["epoch", "step"] = "step"  # schedules.py
    init: Literal["normal", "zeros", "fan_in"] = "fan_in"  # hk.Linear's default, which eval_experiment.py leaves
    # C.1: the last 10,009 training images; dataset.py: the first 10,000. Both count in the shuffled order of TensorFlow
    # Datasets. A folder goes class by class, where the last 10,009 are eight classes: so they are drawn from all.
    hold_out: HoldOut = "balanced"
    refit: bool = True  # C.1 does not say; eval_experiment.py trains on Split.TRAIN_AND_VALID; we follow the code


@dataclass(frozen=True, slots=True, kw_only=True)
class CLSA(LinearSettings):
    """CLSA's: MoCo's with a rate of 10 along a cosine.

    Source: Wang and Qi 2021, arXiv:2104.07713, section 4.1; maple-research-lab/CLSA, lincls.py.
    """

    VERSION: ClassVar[int] = 1

    lrs: tuple[float, ...] = (10.0,)  # section 4.1; lincls.py
    schedule: Literal["step", "cosine"] = "cosine"  # section 4.1; lincls.py, once an epoch
    final_lr: float = 0.01  # lincls.py, --final_lr; the paper names no end


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(LinearSettings):
    """For small gray images: no augmentation and standardized features, so that it takes seconds on a processor.

    Source: none published; rate and length were chosen on images held out of the training split of `mnist5k`.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = MNIST
    epochs: int = 30
    lrs: tuple[float, ...] = (0.1,)
    schedule: Literal["step", "cosine"] = "cosine"
    augment: Literal["crop_flip", "none"] = "none"
    standardize: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LBFGS:
    """Multinomial logistic regression on features by L-BFGS, its L2 penalty chosen on held-out training images.

    The objective is the sum of the cross-entropies plus l2 / 2 times the squared weights; the bias is free. In
    scikit-learn's words C = 1 / l2. The papers do not say whether the cross-entropies are summed or averaged;
    facebookresearch/dinov2, dinov2/eval/log_regression.py, reads the same 45 values as C of the sum, and so do we.
    Source: SimCLR, arXiv:2002.05709, B.8 (transfer by a linear classifier), after Kornblith et al. 2019,
    arXiv:1805.08974.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = TRANSFER  # B.8: shorter side 224, center crop
    l2_range: tuple[float, float] = (1e-6, 1e5)  # B.8
    l2_count: int = 45  # B.8, at equal steps of the logarithm
    iterations: int = 1000  # at most, a value; log_regression.py, DEFAULT_MAX_ITER; B.8 names none
    hold_out: HoldOut = "balanced"  # B.8: a validation set; sizes in BYOL, table 10
    valid_images: int | None = None  # how many; None: as the data set's papers do, else a tenth (log_regression.py)
    refit: bool = True  # B.8: fitted again on training and validation images
    precision: Precision = "fp32"  # of the backbone; B.8 names none

    def __post_init__(self) -> None:
        if not 0 < self.l2_range[0] <= self.l2_range[1]:
            raise ValueError(f"l2_range: {self.l2_range} is not a rising pair above 0")
        for name in ("l2_count", "iterations"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.valid_images is not None and self.valid_images <= 0:
            raise ValueError(f"valid_images: {self.valid_images} is not positive")

    @property
    def l2(self) -> tuple[float, ...]:
        """The penalties, strongest first: each solution is where the next, weaker one starts."""
        low, high = self.l2_range
        return tuple(np.geomspace(high, low, self.l2_count).tolist())
