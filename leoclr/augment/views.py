"""A view of an image, as data: what a method asks for and what the loader makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one view is made, in the order of the fields; probabilities are 0..1.

    The defaults are MoCo-v2's `--aug-plus` (facebookresearch/moco, main_moco.py): random resized crop, color jitter,
    grayscale, blur, flip. The flip is done with the crop, which gives the same picture. What follows comes last.

    SimCLR's jitter of strength s (arXiv:2002.05709, appendix A) is `jitter=(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)`.

    Raises: ValueError naming the field whose value is out of range.
    """

    size: int  # side of the square view, pixels
    crop_scale: Pair | None = (0.2, 1.0)  # share of the area; None: the whole image, resized to size x size
    crop_ratio: Pair = (3 / 4, 4 / 3)  # width / height
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: Pair = (0.1, 2.0)  # pixels of the view, as PIL's radius
    flip_p: float = 0.5
    # BYOL's second view has .2; MoCo-v2 has none. google-deepmind/deepmind-research, byol/utils/augmentations.py
    solarize_p: float = 0.0
    solarize_threshold: float = 0.5  # share of white from which a value is inverted; the same file
    # CLSA (arXiv:2104.07713): five times, one of 14 strong operations with a probability of .5. Its text has Invert
    # among them, its code has nothing in that place; see `leoclr.augment.strong`.
    strong: Literal["none", "paper", "code"] = "none"
    strong_picks: int = 5  # its "Stronger Augmentations"; `--aug_times=5` in the README of maple-research-lab/CLSA
    strong_p: float = 0.5  # the same; data_processing/RandAugment.py, class RandAugment

    def __post_init__(self) -> None:
        _check(self.size > 0, "size", self.size, "positive")
        for name in ("jitter_p", "gray_p", "blur_p", "flip_p", "solarize_p", "solarize_threshold", "strong_p"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in 0..1")
        _check(_share(self.crop_scale), "crop_scale", self.crop_scale, "a rising pair in 0..1")
        _check(0 < self.crop_ratio[0] <= self.crop_ratio[1], "crop_ratio", self.crop_ratio, "a rising positive pair")
        _check(0 < self.blur_sigma[0] <= self.blur_sigma[1], "blur_sigma", self.blur_sigma, "a rising positive pair")
        fine = min(self.jitter) >= 0 and self.jitter[3] <= 0.5
        _check(fine, "jitter", self.jitter, "four numbers from 0 on, the last (hue, turns) at most .5")
        _check(self.strong in ("none", "paper", "code"), "strong", self.strong, "one of none, paper, code")
        _check(self.strong_picks >= 1, "strong_picks", self.strong_picks, "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestView:
    """How a test image is made: resized to `resize`, then a square of side `size` cut out of it.

    The defaults are ImageNet's test protocol, as every recipe here has it (facebookresearch/moco, main_lincls.py).
    LeOCLR's robustness test (arXiv:2403.06813, section 5, table 6: "resized to 256x256 but randomly cropped and resized
    to 224x224") is `keep_ratio=False` with `crop="random_resized"` where its words are taken as they stand, or with
    `crop="random"` where they mean a window of 224 pixels; the paper gives no scale and has no code.

    Raises: ValueError naming the field whose value is out of range.
    """

    __test__: ClassVar[bool] = False  # its name begins with "Test", but pytest shall not collect it

    resize: int = 256  # shorter side after resizing, pixels
    size: int = 224  # side of the square view, pixels
    keep_ratio: bool = True  # False: resized to resize x resize, whatever the image's shape
    # "random": a window of size x size anywhere; "random_resized": a box of a random area and ratio, resized to size
    crop: Literal["center", "random", "random_resized"] = "center"
    crop_scale: Pair = (0.08, 1.0)  # share of the area ("random_resized" alone); torchvision, RandomResizedCrop
    crop_seed: int = 0  # random crops are a function of it and of the image's index
    # main_lincls.py resizes bilinearly; LeOCLR's section 5 and SimCLR's linear transfer (B.8) write bicubic.
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        _check(0 < self.size <= self.resize, "size", self.size, f"between 1 and resize ({self.resize})")
        _check(_share(self.crop_scale), "crop_scale", self.crop_scale, "a rising pair in 0..1")
        _check(self.crop_seed >= 0, "crop_seed", self.crop_seed, "at least 0")
        crops = ("center", "random", "random_resized")
        _check(self.crop in crops, "crop", self.crop, f"one of {', '.join(crops)}")
        kinds = ("bilinear", "bicubic")
        _check(self.interpolation in kinds, "interpolation", self.interpolation, f"one of {', '.join(kinds)}")


def _share(scale: Pair | None) -> bool:
    return scale is None or 0 < scale[0] <= scale[1] <= 1


def _check(fine: bool, field: str, value: object, wanted: str) -> None:
    if not fine:
        raise ValueError(f"{field}: {value} is not {wanted}")
