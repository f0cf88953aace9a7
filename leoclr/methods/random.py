"""The control: a backbone as it is initialized, never trained. What it scores is owed to architecture and protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.methods import contract
from leoclr.methods.contract import Batch, Facts

TRAINS = False
WATCHES: tuple[str, ...] = ()
RECIPE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """There is nothing to set."""


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return one view: the whole image, resized, as it is."""
    return (View(size=size, crop_scale=None, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0),)


class Method(contract.Method):
    """A backbone and nothing else."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Take one new backbone."""
        super().__init__()
        self.config = config
        self.backbone = new_backbone()

    def forward(self, batch: Batch) -> NoReturn:
        """Refuse. Raises: RuntimeError, always."""
        raise RuntimeError("the random control is never trained: its backbone is saved as it was initialized")
