"""Linear evaluation: a linear classifier on the features of the frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch

from jobs import inputs, loop
from jobs.contract import FORBID, Job, Metric, Params
from leoclr.evaluate.linear import LinearProbe, LinearSettings
from leoclr.work import Work

METRICS = (
    Metric("top1", "%", "higher", "linear top-1"),
    Metric("top5", "%", "higher", "linear top-5"),
)
NEEDS = ("pretrain",)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class LinearParams(LinearSettings):
    """Params of a linear evaluation."""

    dataset: str
    seed: int = 0


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return `LinearParams`."""
    return LinearParams


def train_loop(config: Mapping[str, Any]) -> None:
    """Train the classifier in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, LinearParams)
    return LinearProbe(
        inputs.backbone(job),
        inputs.data(job),
        settings=params,
        seed=params.seed,
        device=device,
        workers=job.resources.loader_workers,
    )
