"""What a method is.

A file of this package defines `Config` (frozen dataclass, each field with unit and source), `views(config, size)`
(how each view of an image is made, as data), `RECIPE` (how its paper trains it) and `Method` (the module that turns
views into a loss). State changes only in methods named for it: `forward` leaves queues and slow encoders as they are.

One epoch, and one step of it, in the order of facebookresearch/moco:

    method.start_epoch(survey)             # looks at the data once an epoch; nothing for most methods
    method.before_step(at)                 # moves the slow encoder, before the keys are computed
    step = method(batch)                   # loss and keys
    step.loss.backward()
    method.after_backward(at)              # holds parameters still that the paper freezes at first
    optimizer.step()
    method.update(step)                    # pushes the keys
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from leoclr.augment.views import View

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """The images of one step, as one worker sees them."""

    views: tuple[Tensor, ...]  # as `views(config, size)` lists them: each float [N, C, H, W], normalized
    images_N: Tensor | None = None  # int64: the place of each image in its split
    classes_N: Tensor | None = None  # int64: only for a method that reads classes


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward pass gives: a scalar to minimize, keys to remember, numbers to watch."""

    loss: Tensor  # scalar, with gradient
    keys: tuple[Tensor, ...] = ()  # detached rows of this worker, of unit length for a queue: `update` gathers them
    watch: tuple[tuple[str, Tensor], ...] = ()  # (name, detached scalar) such as ("positive_similarity", ...)


@dataclass(frozen=True, slots=True)
class At:
    """A position in training."""

    step: int  # optimizer steps before this one, over all epochs
    total: int  # optimizer steps of the whole training
    epoch: int  # of this step, from 0
    epochs: int  # of the whole training


@dataclass(frozen=True, slots=True)
class Facts:
    """What a method may know of its data when it is made."""

    images: int  # in the split that it trains on
    classes: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # by which its images, scaled to 0..1, are normalized
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Survey(Protocol):
    """What a method may look at before an epoch; the same on every worker."""

    @property
    def epoch(self) -> int:
        """The epoch that is about to start."""
        ...

    @property
    def seed(self) -> int:
        """The pre-training's seed."""
        ...

    @property
    def views(self) -> tuple[View, ...]:
        """The views that training makes of each image."""
        ...

    def features(self, view: View) -> Tensor:
        """Return the backbone's features [M, F] of all M training images, each seen once in `view`; no gradient."""
        ...


class Group(TypedDict, total=False):
    """Parameters that are trained alike; what is absent is as in the pre-training's settings."""

    params: list[nn.Parameter]
    lr_scale: float  # their rate, as a share of the pre-training's
    fixed_rate: bool  # the schedule does not move their rate
    momentum: float  # of the optimizer; 0: none
    weight_decay: float
    plain: bool  # neither decay nor layer-wise adaptation, whatever the optimizer


class Method(nn.Module):
    """The contract of every method; a subclass overrides `forward`, and the others where it keeps state."""

    READS_CLASSES: ClassVar[bool] = False
    """Whether `Batch.classes_N` is filled: for the supervised baseline alone."""

    backbone: nn.Module
    """The trained trunk: images [N, C, H, W] to features [N, F]."""

    def forward(self, batch: Batch) -> Step:
        """Return the loss of one batch."""
        raise NotImplementedError

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return why a batch cannot come in parts; "" where the loss is a mean over images that do not meet in it."""
        return "the loss compares the images of a batch with each other: it is another one for parts of a batch"

    def start_epoch(self, survey: Survey) -> None:
        """Look at the data before an epoch, clusters for example; not called when an epoch continues in its middle."""

    def choose(self, indices_N: Indices, at: At) -> Indices:
        """Return the images of this worker's step, given those drawn for it; a function of them, `at` and the state."""
        return indices_N

    def before_step(self, at: At) -> None:
        """Get ready for the step at `at`: move what follows the trained encoder slowly, say."""

    def after_backward(self, at: At) -> None:
        """Change gradients before the optimizer reads them."""

    def update(self, step: Step) -> None:
        """Remember the keys of a finished step."""

    def groups(self) -> Sequence[Group]:
        """Return all parameters that need a gradient, in groups that are trained alike."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def evaluated(self) -> nn.Module:
        """Return the trunk that evaluations load: the trained one, unless the paper evaluates its slow copy."""
        return self.backbone


def require(holds: bool, field: str, rule: str) -> None:
    """Raise a ValueError that names the `field` of a Config and its `rule`, unless it `holds`."""
    if not holds:
        raise ValueError(f"{field}: must be {rule}")


class MethodModule(Protocol):
    """What each file of this package defines."""

    TRAINS: bool
    """False for a control that takes no optimizer step: `forward` raises, pre-training saves it as it starts."""
    WATCHES: tuple[str, ...]
    """The names in `Step.watch`, under any config."""
    RECIPE: Mapping[str, Any]
    """Pre-training settings (fields of `leoclr.pretraining.PretrainSettings`) where the method's paper differs from
    MoCo-v2's, which are the defaults there. Each with its source."""
    Config: Callable[..., Any]
    Method: type[Any]
    """Method(config, new_backbone, facts): keeps `config` under that name, and calls new_backbone() before it draws
    anything, so that equal seeds start all methods from equal weights, and once for each encoder that trains on its
    own; a slow encoder is a copy."""

    def views(self, config: Any, size: int) -> tuple[View, ...]:
        """Return how each view is made from an image; `size` is the side in pixels of the largest."""
        ...
