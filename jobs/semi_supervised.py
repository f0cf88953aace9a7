"""Semi-supervised evaluation: the whole network is fine-tuned on class-balanced shares of the labels, one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from functools import partial
from typing import Any

import pydantic
import torch

from jobs import inputs, loop
from jobs.contract import FORBID, Job, Metric, Params
from leoclr.evaluate.chain import Chain
from leoclr.evaluate.finetune import FineTune, FineTuneSettings
from leoclr.work import Work

METRICS = (
    Metric("labels_1/top1", "%", "higher", "1 % labels top-1"),
    Metric("labels_10/top1", "%", "higher", "10 % labels top-1"),
)
NEEDS = ("pretrain",)


def _simclr() -> dict[str, FineTuneSettings]:
    # 60 epochs with 1 % and 30 with 10 %: SimCLR B.5, and what the LeOCLR paper says of its own (section 4)
    return {
        "labels_1": FineTuneSettings(labels_pct=1, epochs=60),
        "labels_10": FineTuneSettings(labels_pct=10, epochs=30),
    }


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class SemiSupervisedParams:
    """Params of a semi-supervised evaluation: one fine-tuning a fraction; its name begins its numbers' names."""

    dataset: str
    seed: int = 0
    fractions: dict[str, FineTuneSettings] = field(default_factory=_simclr)

    def __post_init__(self) -> None:
        if not self.fractions:
            raise ValueError("fractions: name at least one")
        for name in self.fractions:
            if not re.fullmatch(r"[a-z0-9_]+", name):
                raise ValueError(f"fractions: `{name}` is not made of a-z, 0-9 and _")


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return `SemiSupervisedParams`."""
    return SemiSupervisedParams


def train_loop(config: Mapping[str, Any]) -> None:
    """Fine-tune in this worker, one fraction after another."""
    loop.run(config, _build)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, SemiSupervisedParams)
    data = inputs.data(job)

    def fine_tune(settings: FineTuneSettings) -> Work:
        return FineTune(
            inputs.backbone(job),
            data,
            settings=settings,
            seed=params.seed,
            device=device,
            workers=job.resources.loader_workers,
        )

    return Chain({name: partial(fine_tune, settings) for name, settings in params.fractions.items()})
