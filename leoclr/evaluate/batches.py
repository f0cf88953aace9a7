"""Shuffled batches with labels, taken one by one from any step of any epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leoclr import distributed
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.views import View
from leoclr.data.contract import UNLABELED, DataSet
from leoclr.sending import sent

Indices = NDArray[np.int64]


def global_batch(batch: int, size: int) -> int:
    """Return `batch` cut to what `size` images can fill and the workers can share evenly.

    Raises: ValueError when there are fewer images than workers.
    """
    world = distributed.world_size()
    whole = min(batch, size) // world * world
    if whole == 0:
        raise ValueError(f"batch: {min(batch, size)} images cannot be shared by {world} workers")
    return whole


def plan(size: int, batch: int, *, seed: int, epoch: int) -> list[Indices]:
    """Return this worker's indices below `size` for each step of `epoch`; see `leoclr.augment.loader.epoch_plan`."""
    rank, world = distributed.rank(), distributed.world_size()
    return epoch_plan(size, batch=batch, seed=seed, epoch=epoch, rank=rank, world=world)


class Batches(Protocol):
    """Labeled batches of one worker.

    An epoch is one shuffled pass; the images that do not fill a last batch are left out of it, other ones each time.
    """

    batch: int  # images of one step, over all workers
    steps: int  # of one epoch

    def start(self, epoch: int, step: int) -> None:
        """Go to `step` of `epoch`."""
        ...

    def take(self) -> tuple[Tensor, Tensor]:
        """Return the next inputs [N, ...] and their classes, int64 [N], on the device."""
        ...


class ImageBatches:
    """Batches of one augmented view of `chosen` training images: float [N, C, size, size], normalized."""

    def __init__(
        self,
        data: DataSet,
        view: View,
        *,
        chosen: Indices,
        batch: int,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        split = data.splits["train"]
        self._loader = ViewLoader(
            split.images, (view,), mean=data.mean, std=data.std, seed=seed, device=device, workers=workers
        )
        self._labels, self._chosen, self._seed, self._device = split.labels, chosen, seed, device
        self.batch = global_batch(batch, len(chosen))
        self.steps = len(chosen) // self.batch
        self._left: list[Indices] = []
        self._views: Iterator[tuple[Tensor, ...]] = iter(())

    def start(self, epoch: int, step: int) -> None:
        batches = plan(len(self._chosen), self.batch, seed=self._seed, epoch=epoch)[step:]
        self._left = [self._chosen[indices] for indices in batches]
        self._views = self._loader.batches(epoch, list(self._left))

    def take(self) -> tuple[Tensor, Tensor]:
        (images_NCHW,) = next(self._views)
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        return images_NCHW, sent(torch.from_numpy(self._labels[self._left.pop(0)]), self._device)


class RowBatches:
    """Batches of `chosen` ones of rows that were computed once, such as the features of a frozen backbone."""

    def __init__(self, rows_MF: Tensor, labels_M: Tensor, *, chosen: Indices, batch: int, seed: int) -> None:
        self._rows_MF, self._labels_M, self._chosen, self._seed = rows_MF, labels_M, chosen, seed
        self.batch = global_batch(batch, len(chosen))
        self.steps = len(chosen) // self.batch
        self._left: list[Indices] = []

    def start(self, epoch: int, step: int) -> None:
        self._left = plan(len(self._chosen), self.batch, seed=self._seed, epoch=epoch)[step:]

    def take(self) -> tuple[Tensor, Tensor]:
        indices = sent(torch.from_numpy(self._chosen[self._left.pop(0)]), self._rows_MF.device)
        return self._rows_MF[indices], self._labels_M[indices]


def labeled(data: DataSet) -> Indices:
    """Return the indices of the training images whose class is known."""
    return np.flatnonzero(data.splits["train"].labels != UNLABELED)
