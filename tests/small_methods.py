"""What makes each method small enough for a test: settings of its Config that its defaults are too large for."""

from typing import Any

import torch
from torch import Tensor

from leoclr.methods import module
from leoclr.methods.contract import Batch, Facts

FACTS = Facts(images=24, classes=3)
MOMENTUM = {"queue_size": 50, "dim": 16, "momentum": 0.9}
SMALL: dict[str, dict[str, Any]] = {
    "barlow_twins": {"projector": (12, 12, 10)},
    "byol": {"hidden_dim": 12, "dim": 8, "momentum": 0.9},
    "clsa": MOMENTUM,
    "dino": {"dim": 10, "hidden_dim": 12, "bottleneck_dim": 6, "small_crops": 2, "momentum": 0.9, "freeze_epochs": 0},
    "leoclr": MOMENTUM,
    "leoclr_end_to_end": {"dim": 16},
    "moco_v2": MOMENTUM,
    "random": {},
    "simclr": {"dim": 16},
    "simsiam": {"dim": 12, "predictor_dim": 6},
    "spcl": {"prototypes": 3, "dim": 10, "whitened_dim": 4},
    "supervised": {},
    "swav": {
        "prototypes": 10,
        "hidden_dim": 12,
        "dim": 6,
        "small_crops": 2,
        "freeze_steps": 1,
        "queue_size": 12,
        "queue_from": 0,
    },
    "vicreg": {"expander": (12, 12, 10)},
}


def batch(name: str, *, images: int, size: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
    """Return a batch of noise for method `name`, as its small Config asks for views."""
    views = module(name).views(module(name).Config(**SMALL[name]), size)
    shown = [torch.randn(images, 3, view.size, view.size, generator=generator, dtype=dtype) for view in views]
    return Batch(tuple(shown), torch.arange(images), classes(images))


def classes(images: int) -> Tensor:
    """Return the classes of the first `images` images: each class in turn."""
    return torch.arange(images) % FACTS.classes
