"""How much work a stage is, and how long that takes at a given speed: for stages that never ran. Pure.

The unit is a *pass*: one image forward through ResNet-50 at 224 pixels; backward counts two. Other trunks and sizes
count by their multiply-adds. Loading, augmenting and what workers tell each other are in the speed, not in the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs import grid
from orchestration.archives import COUNTS
from orchestration.spec import StageSpec

IMAGENET = COUNTS["imagenet"]["train"]
# Passes a second of one V100: facebookresearch/moco, README.md: MoCo-v2, 200 epochs, 53 hours on 8 of them, float32;
# four passes an image. Newer GPUs and bf16 are a multiple of it that we have not measured.
V100 = IMAGENET * 200 * 4 / (53 * 3600 * 8)
# Passes of a training image: queries count three, keys one. Published facts of our tables, and of each method's file.
PASSES = {"moco_v2": 4.0, "leoclr": 5.0, "simclr": 6.0, "simsiam": 6.0, "barlow_twins": 6.0, "vicreg": 6.0,
          "byol": 8.0, "leoclr_end_to_end": 9.0, "supervised": 3.0}  # fmt: skip
# CLSA's views have five sizes: by its authors' hours beside MoCo-v2's 53, arXiv:2104.07713, 70 and 166 on 8 V100.
CLSA = {"single": 4.0 * 70 / 53, "multi": 4.0 * 166 / 53}
# Multiply-adds of a trunk of width 64 at 224 pixels, in 1e9: torchvision's documentation of its weights.
TRUNKS = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09}
STEMS = {"imagenet": 1.0, "stride2": 4.0, "cifar": 16.0}  # times the pixels that the first block sees
TRAINED, FROZEN = 3.0, 1.0
# A detector's scene, in passes: 0.551 s a step of 16 on 8 V100, facebookresearch/detectron2, MODEL_ZOO.md, R50-C4 1x.
SCENE = 0.551 * 8 * V100 / 16


@dataclass(frozen=True, slots=True)
class Effort:
    """Passes of one stage."""

    passes: float  # of the stage itself
    trial_passes: float = 0.0  # of each point of its grid, tried before
    trials: int = 0

    @property
    def total(self) -> float:
        return self.passes + self.trials * self.trial_passes


def of(stage: StageSpec, stages: Mapping[str, StageSpec]) -> Effort | None:
    """Return the work of a stage, given those of its arm by name; None where we cannot tell."""
    params: Any = stage.params
    images = COUNTS.get(params.dataset)
    if images is None:
        return None
    if stage.kind == "pretrain":
        return _pretraining(params, images)
    trunk: Any = next((stages[need].params for need in stage.needs if stages[need].kind == "pretrain"), None)
    return _evaluation(stage, images, trunk) if trunk else None


def _pretraining(params: Any, images: Mapping[str, int]) -> Effort | None:
    passes = CLSA.get(params.settings.variant) if params.method == "clsa" else PASSES.get(params.method)
    if passes is None or not hasattr(params, "epochs") or params.epochs is None:
        return None
    count = images.get("unlabeled", images["train"])
    return Effort(count * params.epochs * passes * _relative(params, params.image_size))


def _evaluation(stage: StageSpec, images: Mapping[str, int], trunk: Any) -> Effort | None:
    settings: Any = stage.params.settings  # type: ignore[attr-defined]  # of every evaluation
    if stage.kind == "detection":
        return Effort(settings.iterations * settings.batch * SCENE)
    view = getattr(settings, "view", None)
    share = _relative(trunk, getattr(view, "size", 224))
    if stage.kind == "knn":
        return Effort((images["train"] + images["test"]) * FROZEN * share)
    if stage.kind == "linear":
        return Effort(getattr(settings, "epochs", 1) * images["train"] * FROZEN * share)
    points = grid.points_of(stage.kind, stage.params_json)
    if stage.kind == "transfer":
        one = _seen(settings.training(settings.points()[0]), images["train"]) * TRAINED * share
        return Effort(one, one, len(points))
    each = [
        _seen(settings.training(percent, settings.points(percent)[0]), images["train"] * percent / 100)
        for percent in settings.percents
    ]
    once = sum(each) * TRAINED * share
    return Effort(once, once / len(each), len(points))


def _seen(training: Any, images: float) -> float:
    """Return the images that one fine-tuning sees."""
    steps, epochs = training.steps, training.epochs
    return float(steps * training.batch if steps is not None else epochs * images)


def _relative(trunk: Any, size: int) -> float:
    """Return the multiply-adds of one image beside ResNet-50's at 224 pixels; imported trunks are taken as that."""
    own = TRUNKS.get(getattr(trunk, "backbone", None) or "resnet50", TRUNKS["resnet50"])
    stem = STEMS.get(getattr(trunk, "stem", None) or "imagenet", 1.0)
    width = (getattr(trunk, "width", None) or 64) / 64
    return own / TRUNKS["resnet50"] * width**2 * (size / 224) ** 2 * stem
