"""kNN evaluation: the training images vote on the test images, by the features of the frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jobs import inputs, loop, protocols
from jobs.contract import Job, Metric, Params
from leoclr.evaluate.knn import NearestNeighbors
from leoclr.work import Work

METRICS = (
    Metric("top1", "%", "higher", "kNN top-1"),
    Metric("top5", "%", "higher", "kNN top-5"),
    Metric("mean_per_class", "%", "higher", "kNN mean per class"),
)
NEEDS = ("pretrain",)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return the params of the protocol that `raw` names."""
    return protocols.params_type("knn", raw)


def train_loop(config: Mapping[str, Any]) -> None:
    """Vote in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, protocols.params_type("knn", job.params))
    backbone, data, workers = inputs.backbone(job), inputs.data(job), job.resources.loader_workers
    return NearestNeighbors(backbone, data, settings=params.settings, device=device, workers=workers)
