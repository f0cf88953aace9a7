"""Fine-tuning: the whole network with a new linear classifier, on few labels or on another data set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from leoclr import distributed, heads, optim
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.data.contract import DataError
from leoclr.evaluate import features, metrics
from leoclr.evaluate.batches import ImageBatches
from leoclr.evaluate.finetune_settings import FineTuneSettings
from leoclr.evaluate.splits import Task
from leoclr.work import Number


class FineTune:
    """Fine-tuning as a `leoclr.work.Work`; it trains the very backbone that it is given.

    Final numbers, in percent and of the network after its last step: `accuracies` on the task's split, and score, that
    of top1 and mean_per_class which the data set's papers report. Also images, how many were trained on, and the task's
    facts.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        *,
        settings: FineTuneSettings,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        """Raises: DataError for a data set whose images have several classes each."""
        data = task.data
        if data.metric == "map11":
            raise DataError(f"{data.name}: its images have several classes each", hint="fine-tuning takes one class")
        self._settings, self._task, self._device, self._workers = settings, task, device, workers
        with features.seeded(seed, torch.device("cpu")):
            head = heads.linear_head(backbone.feature_dim, len(data.classes))
        model = nn.Sequential(OrderedDict(backbone=backbone, head=head)).to(device)
        self._model = model.to(memory_format=torch.channels_last)  # faster, on a CPU too
        self._model.requires_grad_(True)
        self._trained = distributed.wrap(self._model, device)
        self._optimizer = _optimizer(backbone, head, settings)
        self._batches = ImageBatches(
            data, _crops(settings), chosen=task.chosen, batch=settings.batch, seed=seed, device=device, workers=workers
        )
        self._total = settings.total(self._batches.steps)
        self.epochs = -(-self._total // self._batches.steps)  # the last one may be a part of a pass
        _set_batch_norm(self._model, settings.batch_norm_momentum(self._batches.steps))
        self._step = 0  # of the whole training; set by start_epoch

    def steps(self, epoch: int) -> int:
        return min(self._batches.steps, self._total - epoch * self._batches.steps)

    def start_epoch(self, epoch: int, step: int) -> None:
        self._step = epoch * self._batches.steps + step
        self._batches.start(epoch, step)
        self._model.train()

    def train_step(self) -> Mapping[str, Tensor | Number]:
        batch = self._batches.batch
        optim.set_lr(self._optimizer, self._settings.rate(self._step, steps_per_epoch=self._batches.steps, batch=batch))
        images_NCHW, labels_N = self._batches.take()
        loss = functional.cross_entropy(self._trained(images_NCHW), labels_N)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._step += 1
        return {"loss": loss.detach(), "images": batch}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        task = self._task
        scores_NC = features.extract(
            self._model,
            task.data,
            task.scored,
            view=self._settings.view,
            device=self._device,
            workers=self._workers,
        )
        labels_N = features.labels(task.data, task.scored, self._device)
        final = metrics.accuracies(scores_NC, labels_N)
        score = final["mean_per_class" if task.data.metric == "mean_per_class" else "top1"]
        return {**final, "score": score, "images": len(task.chosen), **task.facts}


def _crops(settings: FineTuneSettings) -> View:
    """Return random crops and flips; neither SimCLR nor those after it color fine-tuning's images."""
    return View(
        size=settings.view.size,
        crop_scale=settings.crop_scale,
        jitter_p=0,
        gray_p=0,
        blur_p=0,
        flip_p=settings.flip_p,
    )


def _optimizer(backbone: nn.Module, head: nn.Module, settings: FineTuneSettings) -> torch.optim.SGD:
    head_scale = 1.0 if settings.head_lr is None else settings.head_lr / settings.lr
    groups: list[dict[str, Any]] = [
        {"params": list(backbone.parameters())},
        {"params": list(head.parameters()), "lr_scale": head_scale},
    ]
    return optim.sgd(
        groups,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )


def _set_batch_norm(model: nn.Module, momentum: float) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
