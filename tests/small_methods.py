"""What makes each method small enough for a test: settings of its Config that its defaults are too large for."""

from typing import Any

import torch
from torch import Tensor

from leoclr.methods import module
from leoclr.methods.contract import Batch, Facts

FACTS = Facts(images=24, classes=3)
MOMENTUM = {"queue_size": 50, "dim": 16, "momentum": 0.9}
SMALL: dict[str, dict[str, Any]] = {
    "leoclr": MOMENTUM,
    "moco_v2": MOMENTUM,
    "random": {},
}


def batch(name: str, *, images: int, size: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
    """Return a batch of noise for method `name`, as its small Config asks for views."""
    views = module(name).views(module(name).Config(**SMALL[name]), size)
    shown = [torch.randn(images, 3, view.size, view.size, generator=generator, dtype=dtype) for view in views]
    return Batch(tuple(shown), torch.arange(images), classes(images))


def classes(images: int) -> Tensor:
    """Return the classes of the first `images` images: each class in turn."""
    return torch.arange(images) % FACTS.classes
