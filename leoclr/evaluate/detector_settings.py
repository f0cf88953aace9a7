"""The shape of the detector, as data; apart from `detector`, which loads torchvision: a plan only needs the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Target = Mapping[str, Tensor]
"""Objects of one image: "boxes" float32 [objects, 4], its pixels x1, y1, x2, y2; "labels" int64 [objects], 1-based."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """Shape of the detector. Defaults: detectron2's for R50-C4 and facebookresearch/moco's detection configs.

    Pairs are (training, test). Lengths are pixels of the image as the network sees it.
    """

    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # side of the square of equal area; Base-RCNN-C4.yaml
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width; detectron2/config/defaults.py
    anchors: int = 256  # sampled per image for the loss of the proposals, up to half of them positive; defaults.py
    proposals_before_nms: tuple[int, int] = (12000, 6000)  # per image; defaults.py, Base-RCNN-C4.yaml
    proposals: tuple[int, int] = (2000, 1000)  # per image, after suppression; defaults.py, Base-RCNN-C4.yaml
    proposal_nms: float = 0.7  # overlap above which the lower of two proposals goes; defaults.py
    regions: int = 512  # sampled per image for the loss of the classifier; defaults.py
    regions_positive: float = 0.25  # at most this share of them; defaults.py
    pool: int = 14  # side of a region's map that enters layer4, cells; defaults.py
    score_min: float = 0.05  # that a detection must exceed; defaults.py
    nms: float = 0.5  # overlap above which the lower of two detections of a class goes; defaults.py
    detections: int = 100  # per image; defaults.py

    def __post_init__(self) -> None:
        for name in ("anchors", "regions", "pool", "detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("anchor_sizes", "anchor_ratios", "proposals_before_nms", "proposals"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} are not positive numbers")
        for name in ("proposal_nms", "regions_positive", "score_min", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
