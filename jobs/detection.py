"""Detection: Faster R-CNN on the pre-trained trunk, scored as VOC does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch

from jobs import inputs, loop
from jobs.contract import FORBID, Job, Metric, Params
from leoclr.evaluate.detection import Detection, DetectionSettings
from leoclr.work import Work

METRICS = (
    Metric("ap", "%", "higher", "AP"),
    Metric("ap50", "%", "higher", "AP50"),
    Metric("ap75", "%", "higher", "AP75"),
)
NEEDS = ("pretrain",)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class DetectionParams(DetectionSettings):
    """Params of a detection."""

    dataset: str
    seed: int = 0


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return `DetectionParams`."""
    return DetectionParams


def train_loop(config: Mapping[str, Any]) -> None:
    """Train the detector in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, DetectionParams)
    return Detection(inputs.backbone(job), inputs.data(job), settings=params, seed=params.seed, device=device)
