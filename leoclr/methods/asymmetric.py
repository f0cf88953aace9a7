"""The pair of unlike crops that BYOL, Barlow Twins and VICReg share: one always blurred, one now and then solarized."""

from __future__ import annotations

from dataclasses import dataclass, replace

from leoclr.augment.views import View
from leoclr.methods.augmentation import Augmentation, require_probability


@dataclass(frozen=True, slots=True, kw_only=True)
class AsymmetricAugmentation(Augmentation):
    """Two crops drawn alike but for blur and solarization; fields without "second" are of both, or of the first.

    The defaults are BYOL's: arXiv:2006.07733, appendix on image augmentations; google-deepmind/deepmind-research,
    byol/utils/augmentations.py. facebookresearch/barlowtwins (main.py) and facebookresearch/vicreg (augmentations.py)
    have the same numbers.
    All three resize their crops bicubically, here bilinearly; BYOL's code shifts the brightness, here it is multiplied.

    Raises: ValueError naming the field whose value is out of range.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)  # byol/utils/dataset.py; torchvision's default in the other two
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)  # saturation half of MoCo-v2's
    blur_p: float = 1.0  # of the first view
    solarize_p: float = 0.0  # of the first view
    second_blur_p: float = 0.1
    second_solarize_p: float = 0.2

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)  # super() without arguments does not know a dataclass with slots
        for field in ("solarize_p", "second_blur_p", "second_solarize_p"):
            require_probability(getattr(self, field), field)

    def pair(self, size: int) -> tuple[View, View]:
        """Return how the two views of `size` pixels are made."""
        first = replace(self.view(size), solarize_p=self.solarize_p)
        return first, replace(first, blur_p=self.second_blur_p, solarize_p=self.second_solarize_p)
