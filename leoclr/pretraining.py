"""Pre-training as a `Work`: any method on any data set, with a k-nearest-neighbor monitor.

N images of one worker's batch, B of all workers (`batch`), F feature values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from leoclr import distributed, optim
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.views import TestView, View
from leoclr.data.contract import DataSet, draw_per_class
from leoclr.evaluate import features, knn
from leoclr.evaluate.knn import KnnSettings
from leoclr.methods.contract import Method
from leoclr.work import Number

SMALL = 64  # pixels: smaller images are not enlarged and cropped for a test, there is no border to lose
HOLD_OUT = 8  # the monitor asks for one training image in eight; the test split is never read while training


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """How a method is trained. Defaults: facebookresearch/moco, MoCo-v2 with 200 epochs (README and main_moco.py)."""

    epochs: int = 200
    batch: int = 256  # images of one step, over all workers
    image_size: int = 224  # side of a view, pixels
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    width: int = 64  # channels of the first block; 64 is the published network
    stem: Literal["imagenet", "cifar", "stride2"] = "imagenet"  # "cifar": 3x3, no pooling; "stride2": 3x3 with stride 2
    optimizer: Literal["sgd", "lars"] = "sgd"
    lr: float = 0.03  # for the whole batch: scale it with `batch`
    sgd_momentum: float = 0.9
    weight_decay: float = 1e-4  # on all parameters, biases and batch norm included, as main_moco.py does
    schedule: Literal["cosine", "step", "constant"] = "cosine"  # the rate moves once an epoch
    milestones: tuple[int, ...] = (120, 160)  # epochs from which the rate is a tenth of what it was ("step" alone)
    warmup_epochs: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of the forward pass
    knn_every: int = 10  # epochs between two looks of the monitor; 0: at the end only
    knn: KnnSettings = field(default_factory=KnnSettings)

    def __post_init__(self) -> None:
        for name in ("batch", "image_size", "width", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("epochs", "warmup_epochs", "knn_every", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leave nothing of {self.epochs} epochs")
        if not 0 <= self.sgd_momentum < 1:
            raise ValueError(f"sgd_momentum: {self.sgd_momentum} is not in 0..1")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`."""
        if self.schedule == "cosine":
            return optim.cosine(self.lr, epoch, total=self.epochs, warmup=self.warmup_epochs)
        warm = optim.warmup_factor(epoch, length=self.warmup_epochs)
        if self.schedule == "step":
            return warm * optim.step_decay(self.lr, epoch, milestones=self.milestones)
        return warm * self.lr


class Pretraining:
    """Trains a method on the images of a data set, without their labels; fulfils `leoclr.work.Work`.

    Labels are read by the monitor alone, and it reads those of the training split only.
    """

    def __init__(
        self,
        method: Method,
        data: DataSet,
        settings: PretrainSettings,
        views: tuple[View, ...],
        *,
        seed: int,
        device: torch.device,
        loader_workers: int = 0,
    ) -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last)  # faster, on a CPU too
        self.epochs = settings.epochs
        self._settings, self._seed, self._device, self._data = settings, seed, device, data
        self._images = data.splits["unlabeled" if "unlabeled" in data.splits else "train"].images
        self._train: nn.Module = self.method
        if settings.epochs:  # the control is never trained: it needs neither gradients nor an optimizer
            self._train = distributed.wrap(self.method, device)
            trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
            self._optimizer = _optimizer(trained, settings)
        self._loader = ViewLoader(
            self._images, views, mean=data.mean, std=data.std, seed=seed, device=device, workers=loader_workers
        )
        self._batches: Iterator[tuple[Tensor, ...]] = iter(())
        self._total = 0

    def steps(self, epoch: int) -> int:
        return len(self._images) // self._settings.batch

    def start_epoch(self, epoch: int, step: int) -> None:
        plan = epoch_plan(
            len(self._images),
            batch=self._settings.batch,
            seed=self._seed,
            epoch=epoch,
            rank=distributed.rank(),
            world=distributed.world_size(),
        )
        self._batches = self._loader.batches(epoch, plan[step:])
        self._total = epoch * self.steps(epoch) + step
        optim.set_lr(self._optimizer, self._settings.rate(epoch))
        self._train.train()

    def train_step(self) -> Mapping[str, Tensor | Number]:
        views = tuple(view.contiguous(memory_format=torch.channels_last) for view in next(self._batches))
        self.method.before_step(self._total, self.epochs * self.steps(0))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
            step = self._train(views)
        self._optimizer.zero_grad(set_to_none=True)
        step.loss.backward()
        self._optimizer.step()
        self.method.update(step)
        self._total += 1
        lr = self._optimizer.param_groups[0]["lr"]
        return {"loss": step.loss.detach(), "lr": lr, "images": self._settings.batch, **dict(step.watch)}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        every = self._settings.knn_every
        return self._monitor() if every and (epoch + 1) % every == 0 and epoch + 1 < self.epochs else {}

    def state(self) -> dict[str, Any]:
        optimizer = self._optimizer.state_dict() if self.epochs else None
        return {"method": self.method.state_dict(), "optimizer": optimizer}

    def load(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        if self.epochs:
            self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        return self._monitor()

    def _monitor(self) -> Mapping[str, Number]:
        """Return the kNN accuracy (percent) on images held out of the bank, all from the training split."""
        size, labels = self._settings.image_size, self._data.splits["train"].labels
        per_class = max(1, int(np.bincount(labels[labels >= 0]).min()) // HOLD_OUT)
        held, bank = (torch.from_numpy(part).to(self._device) for part in draw_per_class(labels, per_class, seed=0))
        view = TestView(resize=size if size < SMALL else round(size * 256 / 224), size=size)
        rows_MF = features.extract(self.method.backbone, self._data, "train", view=view, device=self._device)
        labels_M = features.labels(self._data, "train", self._device)
        found = knn.vote(rows_MF[bank], labels_M[bank], rows_MF[held], settings=self._settings.knn)
        return {"knn_top1": 100.0 * (found == labels_M[held]).double().mean().item()}


def _optimizer(trained: list[nn.Parameter], settings: PretrainSettings) -> torch.optim.Optimizer:
    momentum, decay = settings.sgd_momentum, settings.weight_decay
    if settings.optimizer == "lars":
        return optim.LARS(trained, lr=settings.lr, momentum=momentum, weight_decay=decay)
    return optim.sgd(trained, lr=settings.lr, momentum=momentum, weight_decay=decay)
