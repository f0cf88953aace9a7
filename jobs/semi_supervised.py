"""Semi-supervised evaluation: the whole network is fine-tuned on class-balanced shares of the labels, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from jobs import grid, health, inputs, loop, protocols
from jobs.contract import Job, Metric, Params, Point
from leoclr.data.contract import DataSet
from leoclr.evaluate.chain import Chain
from leoclr.evaluate.finetune import FineTune
from leoclr.evaluate.semi_protocols import SemiSupervisedSettings, group
from leoclr.evaluate.splits import Task
from leoclr.work import Work

PERCENTS = (1, 2, 5, 10, 20, 50, 100)  # BYOL's figure 1 and the LeOCLR paper's figure 5
NEEDS = ("pretrain",)


def _top1(percent: float) -> Metric:
    return Metric(f"{group(percent)}/top1", "%", "higher", f"{percent:g} % labels top-1")


METRICS = tuple(_top1(percent) for percent in PERCENTS)


def metrics(params: protocols.EvaluationParams) -> tuple[Metric, ...]:
    """Return a number for each share that the params name."""
    return tuple(_top1(percent) for percent in params.settings.percents)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return the params of the protocol that `raw` names."""
    return protocols.params_type("semi_supervised", raw)


def points(params: Mapping[str, Any]) -> list[Point]:
    """Return the points of every share that has more than one."""
    settings: SemiSupervisedSettings = _checked(params).settings
    return [
        Point(group=group(percent), settings=point)
        for percent in settings.percents
        if len(settings.points(percent)) > 1
        for point in settings.points(percent)
    ]


def train_loop(config: Mapping[str, Any]) -> None:
    """Fine-tune in this worker: one share after another, or one point of one share's grid."""
    loop.run(config, _build, lambda job, work, folder: grid.export(job, folder))


def _build(job: Job, device: torch.device) -> Work:
    params = _checked(job.params)
    settings: SemiSupervisedSettings = params.settings
    data, root = inputs.data(job), Path(job.data_root)
    percents = {group(percent): percent for percent in settings.percents}
    if job.trial:
        percent = percents[job.trial.group]
        task = settings.trial(data, percent, root=root, seed=params.seed)
        return _fine_tune(job, task, percent, point=job.trial.settings, device=device)
    shares = {name: partial(_share, job, data, percent, device) for name, percent in percents.items()}
    return Chain(shares, health.require_finite)


def _share(job: Job, data: DataSet, percent: float, device: torch.device) -> FineTune:
    params = _checked(job.params)
    settings: SemiSupervisedSettings = params.settings
    task = settings.final(data, percent, root=Path(job.data_root), seed=params.seed)
    chosen = job.chosen.get(group(percent))
    point = chosen.settings if chosen else settings.points(percent)[0]
    return _fine_tune(job, grid.noted(task, chosen), percent, point=point, device=device)


def _fine_tune(job: Job, task: Task, percent: float, *, point: Mapping[str, float], device: torch.device) -> FineTune:
    params = _checked(job.params)
    settings: SemiSupervisedSettings = params.settings
    return FineTune(
        inputs.backbone(job),
        task,
        settings=settings.training(percent, point),
        seed=params.seed,
        device=device,
        workers=job.resources.loader_workers,
    )


def _checked(params: Mapping[str, Any]) -> protocols.EvaluationParams:
    return TypeAdapter(protocols.params_type("semi_supervised", params)).validate_python(params)
