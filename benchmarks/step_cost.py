"""What a training step costs: by theory, by counted operations, and by the clock.

N images of one step, C channels, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from jobs.pretrain import PretrainParams
from leoclr import backbones, data, methods, optim, pretraining
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.views import View
from leoclr.data.contract import DataSet
from leoclr.methods.contract import At, Batch
from leoclr.pretraining import Pretraining
from leoclr.stepping import Place

STEPS = 8  # of one timing
FORWARD, BACKWARD = 1, 2  # a backward pass makes two products for each of the forward pass: for inputs and for weights
ALL, NONE, FIRST, REST = slice(None), slice(0), slice(1), slice(1, None)


class Passes(NamedTuple):
    """Which views of an image a step encodes, in the order of the method's `views`."""

    trained: slice  # forward and backward
    followed: slice = NONE  # forward alone: by a slow encoder
    images: int = 1  # for each image that is drawn


PASSES = {
    "barlow_twins": Passes(ALL),  # 2 views: 6 units
    "byol": Passes(ALL, followed=ALL),  # both views are predicted, and are targets: 6 + 2 = 8
    "clsa": Passes(REST, followed=FIRST),  # a key, then the queries, weak and strong, of several sizes
    "dino": Passes(ALL, followed=slice(2)),  # the teacher sees the two large views
    "leoclr": Passes(FIRST, followed=REST),  # the original is trained, two crops are keys: 3 + 2 = 5
    "leoclr_end_to_end": Passes(ALL),  # 3 views: 9
    "moco_v2": Passes(FIRST, followed=REST),  # a query and a key: 3 + 1 = 4
    "simclr": Passes(ALL),  # 2 views: 6
    "simsiam": Passes(ALL),  # the stopped embedding is the other view's own: 6
    "spcl": Passes(ALL, images=2),  # each image drawn brings a partner: 12
    "supervised": Passes(ALL),  # 1 view: 3
    "swav": Passes(ALL),  # two large views and the small ones
    "vicreg": Passes(ALL),  # 2 views: 6
}
"""Of every method that trains."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A method's step in terms of the reference's."""

    operations: float  # ratio of the products counted by torch, heads included
    steps: tuple[float, ...]  # ratio of times, views made before
    loaded: tuple[float, ...]  # ratio of times, views made by the loader


def theory(params: PretrainParams) -> float:
    """Return the units of a step for each image that is drawn: one is a forward pass of the largest view.

    Small views count by their pixels; heads, losses and the optimizer not at all.
    """
    passes = PASSES[params.method]
    views = methods.module(params.method).views(params.settings, params.image_size)
    areas = [(view.size / params.image_size) ** 2 for view in views]
    units = (FORWARD + BACKWARD) * sum(areas[passes.trained]) + FORWARD * sum(areas[passes.followed])
    return passes.images * units


def costs(subject: Subject, reference: Subject, *, rounds: int) -> Cost:
    """Time both in turn, `rounds` times each, after a round that does not count."""
    return Cost(
        operations=subject.operations() / reference.operations(),
        steps=_ratios(subject.steps, reference.steps, rounds),
        loaded=_ratios(subject.loaded_steps, reference.loaded_steps, rounds),
    )


class Subject:
    """A method, its images and its optimizer, ready to take steps of its last epoch."""

    def __init__(self, params: PretrainParams, device: torch.device) -> None:
        """Make what a pre-training with these params starts from, and the batches of STEPS steps."""
        torch.manual_seed(params.seed)
        found = data.module(params.dataset).load(Path())  # one that comes inside a package: there is no folder
        module = methods.module(params.method)
        views = module.views(params.settings, params.image_size)
        made = module.Method(params.settings, lambda: _backbone(params), pretraining.facts(found))
        self.method = made
        self._work = Pretraining(
            made, found, params, views, seed=params.seed, place=Place(device=device, compile="off")
        )
        self._work.start_epoch(0, 0)  # a method may look at all images once
        groups = [dict(group) for group in made.groups()]
        decay = params.weight_decay
        self._optimizer = optim.sgd(groups, lr=params.lr, momentum=params.sgd_momentum, weight_decay=decay)
        self._epoch, self._device = params.epochs - 1, device
        self._first = self._work.steps(self._epoch) - STEPS
        self._steps = list(self._prepared(params, found, views))

    def operations(self) -> int:
        """Return the operations of one step that torch counts: those of convolutions and matrix products."""
        with FlopCounterMode(display=False) as counter:
            self._step(*self._steps[0])
        return int(counter.get_total_flops())

    def steps(self) -> float:
        """Return the seconds that STEPS steps take when their views are there already."""
        return self._timed(self._step, self._steps)

    def loaded_steps(self) -> float:
        """Return the seconds that STEPS steps of the pre-training itself take, which makes the views of each."""
        self._work.start_epoch(self._epoch, self._first)
        return self._timed(self._work.train_step, [()] * STEPS)

    def _prepared(self, params: PretrainParams, found: DataSet, views: tuple[View, ...]) -> Iterator[tuple[At, Batch]]:
        """Yield what `Pretraining` gives its method in the last steps of the last epoch."""
        split, method, a_pass = found.splits["train"], self.method, self._work.steps(self._epoch)
        drawn = epoch_plan(len(split), batch=params.batch, seed=params.seed, epoch=self._epoch)[self._first :]
        before = self._epoch * a_pass + self._first
        positions = [At(before + i, params.epochs * a_pass, self._epoch, params.epochs) for i in range(STEPS)]
        chosen = [method.choose(indices_N, at) for indices_N, at in zip(drawn, positions, strict=True)]
        loader = ViewLoader(split.images, views, mean=found.mean, std=found.std, seed=params.seed, device=self._device)
        for at, indices_N, made in zip(positions, chosen, loader.batches(self._epoch, chosen), strict=True):
            shown = tuple(view_NCHW.contiguous(memory_format=torch.channels_last) for view_NCHW in made)
            classes_N = torch.from_numpy(split.labels[indices_N]).to(self._device) if method.READS_CLASSES else None
            yield at, Batch(shown, torch.from_numpy(indices_N).to(self._device), classes_N)

    def _step(self, at: At, batch: Batch) -> None:
        """Take one step in the order of leoclr.methods.contract."""
        method = self.method
        method.before_step(at)
        step = method(batch)
        self._optimizer.zero_grad(set_to_none=True)
        step.loss.backward()
        method.after_backward(at)
        self._optimizer.step()
        method.update(step)

    def _timed(self, act: Callable[..., object], calls: Sequence[tuple[object, ...]]) -> float:
        self._wait()
        started = time.perf_counter()
        for arguments in calls:
            act(*arguments)
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _backbone(params: PretrainParams) -> backbones.Backbone:
    return backbones.build(
        params.backbone, width=params.width, stem=params.stem, zero_init_residual=params.zero_init_residual
    )


def _ratios(own: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[float, ...]:
    own(), other()
    return tuple(own() / other() for _ in range(rounds))
