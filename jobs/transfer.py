"""Transfer: the whole network, with a new classifier, is fine-tuned on another data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter

from jobs import grid, inputs, loop, protocols
from jobs.contract import Job, Metric, Params, Point
from leoclr.evaluate.finetune import FineTune
from leoclr.evaluate.transfer_protocols import TransferSettings
from leoclr.work import Work

METRICS = (
    Metric("top1", "%", "higher", "transfer top-1"),
    Metric("mean_per_class", "%", "higher", "transfer mean per class"),
    Metric("score", "%", "higher", "transfer"),  # that of the two which papers report for the data set
)
NEEDS = ("pretrain",)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return the params of the protocol that `raw` names."""
    return protocols.params_type("transfer", raw)


def points(params: Mapping[str, Any]) -> list[Point]:
    """Return the points of the protocol's grid; none when there is a single one."""
    settings: TransferSettings = _checked(params).settings
    found = [Point(settings=point) for point in settings.points()]
    return found if len(found) > 1 else []


def train_loop(config: Mapping[str, Any]) -> None:
    """Fine-tune in this worker: one point of the grid, or the chosen one."""
    loop.run(config, _build, lambda job, work, folder: grid.export(job, folder))


def _build(job: Job, device: torch.device) -> Work:
    params = _checked(job.params)
    settings: TransferSettings = params.settings
    data, chosen = inputs.data(job), job.chosen.get("")
    if job.trial:
        task, point = settings.trial(data, seed=params.seed), job.trial.settings
    else:
        task = grid.noted(settings.final(data, seed=params.seed), chosen)
        point = chosen.settings if chosen else settings.points()[0]
    return FineTune(
        inputs.backbone(job),
        task,
        settings=settings.training(point),
        seed=params.seed,
        device=device,
        workers=job.resources.loader_workers,
    )


def _checked(params: Mapping[str, Any]) -> protocols.EvaluationParams:
    return TypeAdapter(protocols.params_type("transfer", params)).validate_python(params)
