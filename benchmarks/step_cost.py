"""What a training step costs: by theory, by counted operations, and by the clock.

N images of one step, C channels, H x W pixels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from jobs.pretrain import PretrainParams
from leoclr import backbones, data, methods, optim, pretraining
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.data import contract as data_contract
from leoclr.methods.contract import At, Batch, Step
from leoclr.pretraining import Pretraining

REFERENCE = "moco_v2"
STEPS = 8  # of one timing
FORWARD, BACKWARD = 1, 2  # a backward pass makes two products for each of the forward pass: for inputs and for weights
ALL, NONE, FIRST, REST = slice(None), slice(0), slice(1), slice(1, None)


@dataclass(frozen=True, slots=True)
class Passes:
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
    """A method, its images and its optimizer, ready to take steps as `Pretraining` takes them."""

    def __init__(self, params: PretrainParams, device: torch.device) -> None:
        """Make what jobs.pretrain makes of these params, and STEPS batches besides."""
        self._device = device
        torch.manual_seed(params.seed)
        found = data.module(params.dataset).load(_no_folder())
        module = methods.module(params.method)
        views = module.views(params.settings, params.image_size)
        made = module.Method(params.settings, lambda: _backbone(params), pretraining.facts(found))
        self._work = Pretraining(made, found, params, views, seed=params.seed, device=device)
        ...
