"""A view of an image, as data: what a method asks for and what the loader makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one view is made, in the order of the fields; probabilities are 0..1.

    The defaults are MoCo-v2's `--aug-plus` (facebookresearch/moco, main_moco.py): random resized crop, color jitter,
    grayscale, blur, flip.
    """

    size: int  # side of the square view, pixels
    crop_scale: tuple[float, float] | None = (
        0.2,
        1.0,
    )  # share of the area; None: the whole image, resized to size x size
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view, as PIL's radius
    flip_p: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TestView:
    """How a test image is made: the shorter side resized to `resize`, then the central square of side `size`.

    The defaults are ImageNet's test protocol, as every recipe here has it (facebookresearch/moco, main_lincls.py).
    """

    __test__: ClassVar[bool] = False  # its name begins with "Test", but pytest shall not collect it

    resize: int = 256  # shorter side after resizing, pixels; the aspect ratio is kept
    size: int = 224  # side of the square view, pixels

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(f"size: {self.size} must be between 1 and resize ({self.resize})")
