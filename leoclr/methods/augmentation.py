"""The random crop that most methods share: its settings, flat in each method's `Config`, and the view they make."""

from __future__ import annotations

from dataclasses import dataclass

from leoclr.augment.views import View
from leoclr.methods.contract import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """A crop and what is done to it; a method's Config inherits this and states the defaults in which it differs.

    The defaults are MoCo-v2's: facebookresearch/moco, main_moco.py, --aug-plus.

    Raises: ValueError naming the field whose value is out of range.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)  # share of the image's area
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height; default of torchvision's RandomResizedCrop
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8  # probability, as all that end in _p
    gray_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    flip_p: float = 0.5

    def __post_init__(self) -> None:
        require_shares(self.crop_scale, "crop_scale")
        require(rises(self.crop_ratio), "crop_ratio", "two ratios, 0 < low <= high")
        require(rises(self.blur_sigma), "blur_sigma", "two sizes in pixels, 0 < low <= high")
        require(len(self.jitter) == 4 and min(self.jitter) >= 0, "jitter", "four strengths, each at least 0")
        require(self.jitter[3] <= 0.5, "jitter", "at most 0.5 for the hue, which is half a turn")
        for field in ("jitter_p", "gray_p", "blur_p", "flip_p"):
            require_probability(getattr(self, field), field)

    def view(self, size: int) -> View:
        """Return the random crop of `size` pixels with these settings; for another view, `dataclasses.replace` it."""
        return View(
            size=size,
            crop_scale=self.crop_scale,
            crop_ratio=self.crop_ratio,
            jitter=self.jitter,
            jitter_p=self.jitter_p,
            gray_p=self.gray_p,
            blur_p=self.blur_p,
            blur_sigma=self.blur_sigma,
            flip_p=self.flip_p,
        )


def require_probability(value: float, field: str) -> None:
    """Raise a ValueError that names `field` unless `value` is a probability."""
    require(0 <= value <= 1, field, "a probability from 0 to 1")


def require_shares(pair: tuple[float, float], field: str) -> None:
    """Raise a ValueError that names `field` unless `pair` is a range of shares of an image's area."""
    require(rises(pair) and pair[1] <= 1, field, "two shares, 0 < low <= high <= 1")


def rises(pair: tuple[float, float]) -> bool:
    """Return whether `pair` is a range of two positive numbers."""
    return len(pair) == 2 and 0 < pair[0] <= pair[1]
