"""Detection: Faster R-CNN on the pre-trained trunk, scored as the protocol says; COCO's adds areas to the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jobs import inputs, loop, protocols
from jobs.contract import Job, Metric, Params
from leoclr.evaluate.detection import Detection
from leoclr.work import Work

METRICS = (
    Metric("ap", "%", "higher", "AP"),
    Metric("ap50", "%", "higher", "AP50"),
    Metric("ap75", "%", "higher", "AP75"),
)
NEEDS = ("pretrain",)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return the params of the protocol that `raw` names; without one, of `moco_voc_c4`."""
    return protocols.params_type("detection", raw)


def train_loop(config: Mapping[str, Any]) -> None:
    """Train the detector in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, protocols.params_type("detection", job.params))
    return Detection(inputs.backbone(job), inputs.data(job), settings=params.settings, seed=params.seed, device=device)
