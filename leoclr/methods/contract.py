"""What a method is.

A file of this package defines `Config` (frozen dataclass, each field with unit and source), `views(config, size)`
(how each view of an image is made, as data) and `Method` (the module that turns views into a loss). State changes only
in methods named for it: `forward` leaves the queue and the slow encoder's parameters as they are.

One training step, in the order of facebookresearch/moco:

    method.before_step(step, total)        # moves the slow encoder, before the keys are computed
    step = method(views)                   # loss and keys
    step.loss.backward(); optimizer.step()
    method.update(step)                    # pushes the keys
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from leoclr.augment.views import View


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward pass gives: a scalar to minimize, keys to remember, numbers to watch."""

    loss: Tensor  # scalar, with gradient
    keys: tuple[Tensor, ...] = ()  # each [N, D], detached, unit rows, of this worker: `update` gathers them
    watch: tuple[tuple[str, Tensor], ...] = ()  # (name, detached scalar) such as ("positive_similarity", ...)


class Method(nn.Module):
    """The contract of every method; a subclass overrides `forward`, and the others where it keeps state."""

    backbone: nn.Module
    """The trained trunk: images [N, C, H, W] to features [N, F]. What evaluations load."""

    def forward(self, views: Sequence[Tensor]) -> Step:
        """Return the loss of one batch.

        `views` are as `views(config, size)` lists them, each float [N, C, H, W], normalized.
        """
        raise NotImplementedError

    def before_step(self, step: int, total: int) -> None:
        """Move what follows the trained encoder slowly; `step` counts from 0, of `total` optimizer steps."""

    def update(self, step: Step) -> None:
        """Remember the keys of a finished step."""


def require(holds: bool, field: str, rule: str) -> None:
    """Raise a ValueError that names the `field` of a Config and its `rule`, unless it `holds`."""
    if not holds:
        raise ValueError(f"{field}: must be {rule}")


class MethodModule(Protocol):
    """What each file of this package defines."""

    TRAINS: bool
    """False for a control that takes no optimizer step: `forward` raises, pre-training saves it as it starts."""
    Config: Callable[..., Any]
    Method: Callable[..., Method]
    """Method(config, new_backbone): calls new_backbone() before it draws anything, so that equal seeds start all
    methods from equal weights, and once for each encoder that trains on its own; a slow encoder is a copy."""

    def views(self, config: Any, size: int) -> tuple[View, ...]:
        """Return how each view is made from an image; `size` is the side in pixels of a view."""
        ...
