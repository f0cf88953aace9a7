"""Linear evaluation: a linear classifier on the features of a frozen backbone (MoCo's `main_lincls.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from leoclr import distributed, heads, optim
from leoclr.augment.views import TestView, View
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate import features, metrics
from leoclr.evaluate.batches import Batches, ImageBatches, RowBatches, labeled
from leoclr.work import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSettings:
    """Settings of linear evaluation. Defaults: facebookresearch/moco, README and main_lincls.py."""

    view: TestView = field(default_factory=TestView)  # of test images; training crops have its size
    epochs: int = 100
    batch: int = 256  # images of one step, over all workers; cut to the training split
    lr: float = 30.0  # for features that were not standardized
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["step", "cosine"] = "step"  # the rate moves once an epoch
    milestones: tuple[int, ...] = (60, 80)  # epochs from which the rate is a tenth of what it was ("step" alone)
    augment: Literal["crop_flip", "none"] = (
        "crop_flip"  # "none": each image's features are computed once, so it is fast
    )
    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the area; torchvision's default, which main_lincls.py uses
    flip_p: float = 0.5  # 0 where a mirror image has another meaning, as with digits
    standardize: bool = (
        False  # features to mean 0, variance 1 over the training split, so that one rate fits all backbones
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("momentum", "weight_decay", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: {self.crop_scale} is not a rising pair in 0..1")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {self.milestones} do not rise")

    def rate(self, epoch: int) -> float:
        """Return the learning rate of `epoch`."""
        if self.schedule == "cosine":
            return optim.cosine(self.lr, epoch, total=self.epochs)
        return optim.step_decay(self.lr, epoch, milestones=self.milestones)


class LinearProbe:
    """Linear evaluation as a `leoclr.work.Work`. Final numbers: top1 and top5 on the test split, in percent.

    Frozen means frozen: the backbone runs in evaluation mode, so that its batch norm statistics rest too, and a sha256
    over all its parameters and buffers is compared after the first epoch and at the end.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        settings: LinearSettings,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.epochs = settings.epochs
        self._settings, self._data, self._device = settings, data, device
        self._backbone = backbone.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self._digest = features.digest(self._backbone)
        with features.seeded(seed, torch.device("cpu")):
            self._head = heads.linear_head(backbone.feature_dim, len(data.classes)).to(device)
        self._trained = distributed.wrap(self._head, device)
        self._optimizer = optim.sgd(
            self._head.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._shift_F, self._scale_F = torch.zeros((), device=device), torch.ones((), device=device)
        self._batches = self._new_batches(seed, workers)

    def steps(self, epoch: int) -> int:
        return self._batches.steps

    def start_epoch(self, epoch: int, step: int) -> None:
        optim.set_lr(self._optimizer, self._settings.rate(epoch))
        self._batches.start(epoch, step)

    def train_step(self) -> Mapping[str, Tensor | Number]:
        inputs, labels_N = self._batches.take()
        scores_NC = self._trained(self._features(inputs))
        loss = functional.cross_entropy(scores_NC, labels_N)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return {"loss": loss.detach(), "images": self._batches.batch}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        if epoch == 0:  # where facebookresearch/moco's sanity_check looks
            self._require_frozen()
        return {}

    def state(self) -> dict[str, Any]:
        return {
            "backbone_sha256": self._digest,
            "head": self._head.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state()` gave. Raises: RuntimeError when it belongs to another backbone."""
        if state["backbone_sha256"] != self._digest:
            raise RuntimeError("the saved linear classifier was trained on another backbone")
        self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        self._require_frozen()
        with torch.no_grad():
            scores_NC = self._head(self._standardize(self._extract("test")))
        labels_N = features.labels(self._data, "test", self._device)
        return {f"top{k}": metrics.top_k(scores_NC, labels_N, k=k) for k in (1, 5)}

    def _new_batches(self, seed: int, workers: int) -> Batches:
        settings, chosen = self._settings, labeled(self._data)
        if settings.standardize or settings.augment == "none":
            train_MF = self._extract("train")[torch.from_numpy(chosen).to(self._device)]
            if settings.standardize:
                self._scale_F, self._shift_F = torch.std_mean(train_MF, dim=0, correction=0)
        if settings.augment == "none":
            labels_M = features.labels(self._data, "train", self._device)[torch.from_numpy(chosen).to(self._device)]
            return RowBatches(train_MF, labels_M, batch=settings.batch, seed=seed)
        view = View(
            size=settings.view.size,
            crop_scale=settings.crop_scale,
            jitter_p=0,
            gray_p=0,
            blur_p=0,
            flip_p=settings.flip_p,
        )
        return ImageBatches(
            self._data, view, chosen=chosen, batch=settings.batch, seed=seed, device=self._device, workers=workers
        )

    def _features(self, inputs: Tensor) -> Tensor:
        """Return features of images [N, C, H, W], ready for the classifier; inputs [N, F] are features already."""
        with torch.no_grad():
            return self._standardize(inputs if inputs.ndim == 2 else self._backbone(inputs))

    def _standardize(self, features_NF: Tensor) -> Tensor:
        # A feature that never fires over the training split has variance 0: it stays 0 instead of becoming infinite.
        return (features_NF - self._shift_F) / self._scale_F.clamp_min(1e-6)

    def _extract(self, split: str) -> Tensor:
        return features.extract(self._backbone, self._data, split, view=self._settings.view, device=self._device)

    def _require_frozen(self) -> None:
        if features.digest(self._backbone) != self._digest:
            raise RuntimeError("the backbone of a linear evaluation changed while its classifier was trained")
