"""Fine-tuning: the whole network with a new linear classifier, on few labels or on another data set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from leoclr import distributed, heads, optim
from leoclr.augment.views import TestView, View
from leoclr.backbones import Backbone
from leoclr.data.contract import UNLABELED, DataSet, draw_per_class
from leoclr.evaluate import features, metrics
from leoclr.evaluate.batches import ImageBatches
from leoclr.work import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneSettings:
    """Settings of fine-tuning. Defaults: the semi-supervised recipe of SimCLR (arXiv:2002.05709, B.5), at batch 256.

    No warm-up and no regularization, as there. Batch norm trains, with torch's momentum of 0.1, which is SimCLR's
    max(1 - 10 / steps per epoch, 0.9) for up to 100 steps an epoch (its convention is one minus torch's).
    """

    view: TestView = field(default_factory=TestView)  # of test images; training crops have its size
    labels_pct: float = 100.0  # share of the training labels, 0..100; as many of each class
    epochs: int = 60  # B.5: 60 with 1 % of the labels, 30 with 10 %
    batch: int = 256  # images of one step, over all workers; cut to the images at hand (B.5: 4096)
    lr: float = 0.05  # of the backbone; B.5: 0.05 * batch / 256
    head_lr: float | None = (
        None  # of the new classifier; None: that of the backbone (B.5); MoCo-like backbones want more
    )
    momentum: float = 0.9  # B.5
    nesterov: bool = True  # B.5
    weight_decay: float = 0.0  # B.5
    schedule: Literal["cosine", "constant"] = "cosine"  # the rate moves every step; google-research/simclr, run.py
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the area; B.5: random crops as in ImageNet training
    flip_p: float = 0.5  # B.5; 0 where a mirror image has another meaning, as with digits

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr", "labels_pct"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.labels_pct > 100:
            raise ValueError(f"labels_pct: {self.labels_pct} is more than 100")
        if self.head_lr is not None and self.head_lr <= 0:
            raise ValueError(f"head_lr: {self.head_lr} is not positive")
        for name in ("momentum", "weight_decay", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs a momentum above 0")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: {self.crop_scale} is not a rising pair in 0..1")

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of the backbone at `step` of `total`."""
        return self.lr if self.schedule == "constant" else optim.cosine(self.lr, step, total=total)


def draw_labels(labels: NDArray[np.int64], *, pct: float, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of `pct` percent of the images of each class, drawn from `seed` alone.

    That is a whole number of each class, at least 1; halves round to the even number. Images without a label are never
    drawn.

    >>> draw_labels(np.array([0] * 10 + [1] * 300), pct=1, seed=0).size
    4
    """
    classes, counts = np.unique(labels[labels != UNLABELED], return_counts=True)
    shares = {int(c): max(1, round(int(n) * pct / 100)) for c, n in zip(classes, counts, strict=True)}
    return draw_per_class(labels, shares, seed=seed)[0]


class FineTune:
    """Fine-tuning as a `leoclr.work.Work`; it trains the very backbone that it is given.

    Final numbers: top1 and mean_per_class on the test split, in percent.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        settings: FineTuneSettings,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.epochs = settings.epochs
        self._settings, self._data, self._device = settings, data, device
        with features.seeded(seed, torch.device("cpu")):
            head = heads.linear_head(backbone.feature_dim, len(data.classes))
        model = nn.Sequential(OrderedDict(backbone=backbone, head=head)).to(device)
        self._model = model.to(memory_format=torch.channels_last)  # faster, on a CPU too
        self._model.requires_grad_(True)
        self._trained = distributed.wrap(self._model, device)
        self._optimizer = self._new_optimizer(backbone, head)
        self._batches = ImageBatches(
            data,
            View(
                size=settings.view.size,
                crop_scale=settings.crop_scale,
                jitter_p=0,
                gray_p=0,
                blur_p=0,
                flip_p=settings.flip_p,
            ),
            chosen=draw_labels(data.splits["train"].labels, pct=settings.labels_pct, seed=seed),
            batch=settings.batch,
            seed=seed,
            device=device,
            workers=workers,
        )
        self._step = 0  # of the whole training; set by start_epoch

    def steps(self, epoch: int) -> int:
        return self._batches.steps

    def start_epoch(self, epoch: int, step: int) -> None:
        self._step = epoch * self._batches.steps + step
        self._batches.start(epoch, step)
        self._model.train()

    def train_step(self) -> Mapping[str, Tensor | Number]:
        optim.set_lr(self._optimizer, self._settings.rate(self._step, self.epochs * self._batches.steps))
        images_NCHW, labels_N = self._batches.take()
        loss = functional.cross_entropy(self._trained(images_NCHW), labels_N)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._step += 1
        return {"loss": loss.detach(), "images": self._batches.batch}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        scores_NC = features.extract(self._model, self._data, "test", view=self._settings.view, device=self._device)
        labels_N = features.labels(self._data, "test", self._device)
        return {
            "top1": metrics.top_k(scores_NC, labels_N, k=1),
            "mean_per_class": metrics.mean_per_class(scores_NC, labels_N),
        }

    def _new_optimizer(self, backbone: nn.Module, head: nn.Module) -> torch.optim.SGD:
        settings = self._settings
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
