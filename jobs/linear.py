"""Linear evaluation: a linear classifier on the features of the frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jobs import inputs, loop, protocols
from jobs.contract import Job, Metric, Params
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LBFGS
from leoclr.evaluate.logistic import LogisticProbe
from leoclr.work import Work

METRICS = (
    Metric("top1", "%", "higher", "linear top-1"),
    Metric("top5", "%", "higher", "linear top-5"),
    Metric("mean_per_class", "%", "higher", "linear mean per class"),
)
NEEDS = ("pretrain",)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return the params of the protocol that `raw` names."""
    return protocols.params_type("linear", raw)


def train_loop(config: Mapping[str, Any]) -> None:
    """Train the classifier in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, protocols.params_type("linear", job.params))
    backbone, data, workers = inputs.backbone(job), inputs.data(job), job.resources.loader_workers
    settings, seed = params.settings, params.seed
    if isinstance(settings, LBFGS):
        return LogisticProbe(backbone, data, settings=settings, seed=seed, device=device, workers=workers)
    return LinearProbe(backbone, data, settings=settings, seed=seed, device=device, workers=workers)
