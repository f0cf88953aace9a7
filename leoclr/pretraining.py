"""Pre-training as a `Work`: any method on any data set, with a k-nearest-neighbor monitor.

N images of one worker's batch, B of all workers (`batch`), M of the data set, F feature values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leoclr import distributed
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.views import TestView, View
from leoclr.compiling import Compile
from leoclr.data.contract import UNLABELED, DataSet, Split, draw_per_class
from leoclr.evaluate import features, knn
from leoclr.methods.contract import At, Batch, Facts, Indices, Method
from leoclr.pretrain_settings import PretrainSettings
from leoclr.sending import sent
from leoclr.stepping import Place, Stepper
from leoclr.work import Number

SMALL = 64  # pixels: smaller images are not enlarged and cropped for a test, there is no border to lose
HOLD_OUT = 8  # the monitor asks for one training image in eight; the test split is never read while training
_CHUNK = 256  # images of a survey at once


def facts(data: DataSet) -> Facts:
    """Return what a method that reads no classes may know of `data`."""
    images = len(_split(data, reads_classes=False))
    return Facts(images=images, classes=len(data.classes), mean=data.mean, std=data.std)


class Pretraining:
    """Trains a method on the images of a data set, without their labels; fulfils `leoclr.work.Work`.

    Labels are read by the monitor, and by a method that says so; both read those of the training split only.
    """

    def __init__(
        self,
        method: Method,
        data: DataSet,
        settings: PretrainSettings,
        views: tuple[View, ...],
        *,
        seed: int,
        place: Place,
    ) -> None:
        self._settings, self._seed, self._place, self._data = settings, seed, place, data
        self._views, self._device = views, place.device
        self._split = _split(data, reads_classes=method.READS_CLASSES)
        known = self._split.labels != UNLABELED
        self._members = np.flatnonzero(known) if method.READS_CLASSES else np.arange(len(self._split))
        self.epochs = settings.epochs
        self._stepper = Stepper(method, settings, place)
        self.method = self._stepper.method
        self._loader = self._new_loader(views, "on" if self._stepper.compiled else place.compile)
        self._batches: Iterator[tuple[Tensor, ...]] = iter(())
        self._chosen: list[Indices] = []  # the images of the steps to come
        self._epoch = self._step = 0

    def steps(self, epoch: int) -> int:
        return len(self._members) // self._settings.batch

    def start_epoch(self, epoch: int, step: int) -> None:
        self._epoch, self._step = epoch, step
        if step == 0:
            self.method.start_epoch(_Survey(epoch, self._seed, self._views, self))
        plan = epoch_plan(
            len(self._members),
            batch=self._settings.batch,
            seed=self._seed,
            epoch=epoch,
            rank=distributed.rank(),
            world=distributed.world_size(),
        )
        drawn = [self._members[indices] for indices in plan]
        self._chosen = [self.method.choose(each, self._at(at)) for at, each in enumerate(drawn[step:], start=step)]
        parts = [part for chosen_N in self._chosen for part in self._parts(chosen_N)]
        self._batches = self._loader.batches(epoch, parts)
        self._stepper.train()

    def train_step(self) -> Mapping[str, Tensor | Number]:
        at, images_N = self._at(self._step), self._chosen.pop(0)
        lr = self._settings.rate(at.epoch + self._step / self.steps(at.epoch))
        step = self._stepper.take((self._batch(next(self._batches), part) for part in self._parts(images_N)), at, lr=lr)
        self._step += 1
        seen = len(images_N) * distributed.world_size()
        return {"loss": step.loss, "lr": lr, "images": seen, **dict(step.watch)}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        every = self._settings.knn_every
        return self._monitor() if every and (epoch + 1) % every == 0 and epoch + 1 < self.epochs else {}

    def state(self) -> dict[str, Any]:
        optimizer = self._stepper.optimizer
        return {"method": self.method.state_dict(), "optimizer": optimizer.state_dict() if optimizer else None}

    def load(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        if optimizer := self._stepper.optimizer:
            own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizer"])
            for group, settings in zip(optimizer.param_groups, own, strict=True):
                group |= settings  # the momentum and the decay of these settings, should those of the state differ

    def finish(self) -> Mapping[str, Number]:
        return self._monitor()

    def survey(self, view: View, epoch: int) -> Tensor:
        """Return the features [M, F] of all images of the split, each seen once in `view`; each worker does a share."""
        how: Compile = "off" if self._place.compile == "off" else "auto"  # not "on": the last chunk has its own size
        loader, size = self._new_loader((view,), how), len(self._split)
        mine = _share(size)
        plan = [mine[start : start + _CHUNK] for start in range(0, len(mine), _CHUNK)]
        # One network for all images: batch-norm statistics are each worker's own, and only worker 0's are saved.
        distributed.share_buffers(self.method.backbone)
        with self._stepper.plain(), features.evaluating(self.method.backbone), torch.no_grad():
            rows = [self.method.backbone(images_NCHW) for (images_NCHW,) in loader.batches(epoch, plan)]
        return distributed.gather(torch.cat(rows))[:size]

    def _new_loader(self, views: tuple[View, ...], how: Compile) -> ViewLoader:
        return ViewLoader(
            self._split.images,
            views,
            mean=self._data.mean,
            std=self._data.std,
            seed=self._seed,
            device=self._device,
            workers=self._place.loader_workers,
            compile=how,
        )

    def _at(self, step: int) -> At:
        before = sum(self.steps(epoch) for epoch in range(self._epoch))
        return At(before + step, self.epochs * self.steps(0), self._epoch, self.epochs)

    def _parts(self, images_N: Indices) -> list[Indices]:
        """Return the images of each pass of a step."""
        return np.split(images_N, self._settings.accumulate)

    def _batch(self, views: tuple[Tensor, ...], images_N: Indices) -> Batch:
        classes_N = None
        if self.method.READS_CLASSES:
            classes_N = sent(torch.from_numpy(self._split.labels[images_N]), self._device)
        shown = tuple(view.contiguous(memory_format=torch.channels_last) for view in views)
        return Batch(shown, sent(torch.from_numpy(images_N), self._device), classes_N)

    def _monitor(self) -> Mapping[str, Number]:
        """Return the kNN accuracy (percent) on images held out of the bank, all from the training split."""
        size, labels = self._settings.image_size, self._data.splits["train"].labels
        per_class = max(1, int(np.bincount(labels[labels >= 0]).min()) // HOLD_OUT)
        held, bank = draw_per_class(labels, per_class, seed=0)
        view = TestView(resize=size if size < SMALL else round(size * 256 / 224), size=size)
        distributed.share_buffers(self.method.evaluated())  # as in `survey`
        bank_MF, held_NF = self._features(bank, view), self._features(held, view)  # apart: to pick them is to copy them
        bank_M, held_N = (torch.from_numpy(labels[part]).to(self._device) for part in (bank, held))
        found_N = knn.vote(bank_MF, bank_M, held_NF, settings=self._settings.knn)
        return {"knn_top1": 100.0 * (found_N == held_N).double().mean().item()}

    def _features(self, images_N: Indices, view: TestView) -> Tensor:
        """Return the features [N, F] of training images in a test view; each worker does a share."""
        with self._stepper.plain():
            own = features.extract(
                self.method.evaluated(),
                self._data,
                "train",
                view=view,
                device=self._device,
                chosen=images_N[_share(len(images_N))],
                workers=self._place.loader_workers,
            )
        return distributed.gather(own)[: len(images_N)]


@dataclass(frozen=True, slots=True)
class _Survey:
    epoch: int
    seed: int
    views: tuple[View, ...]
    work: Pretraining

    def features(self, view: View) -> Tensor:
        return self.work.survey(view, self.epoch)


def _share(size: int) -> Indices:
    """Return this worker's part of `size` things; all parts are as long: the last thing may be there several times."""
    count = -(-size // distributed.world_size())
    return np.arange(count * distributed.rank(), count * (distributed.rank() + 1), dtype=np.int64).clip(max=size - 1)


def _split(data: DataSet, *, reads_classes: bool) -> Split:
    """Return the split that a method trains on: the images without labels where a data set has such."""
    return data.splits["train" if reads_classes or "unlabeled" not in data.splits else "unlabeled"]
