"""Transfer: the whole network, with a new classifier, is fine-tuned on another data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch

from jobs import inputs, loop
from jobs.contract import FORBID, Job, Metric, Params
from leoclr.evaluate.finetune import FineTune, FineTuneSettings
from leoclr.work import Work

METRICS = (
    Metric("top1", "%", "higher", "transfer top-1"),
    Metric("mean_per_class", "%", "higher", "transfer mean per class"),
)
NEEDS = ("pretrain",)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class TransferParams(FineTuneSettings):
    """Params of a transfer."""

    dataset: str
    seed: int = 0


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return `TransferParams`."""
    return TransferParams


def train_loop(config: Mapping[str, Any]) -> None:
    """Fine-tune in this worker."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, TransferParams)
    return FineTune(
        inputs.backbone(job),
        inputs.data(job),
        settings=params,
        seed=params.seed,
        device=device,
        workers=job.resources.loader_workers,
    )
