"""The smallest network that a method takes: one convolution with batch norm."""

import torch
from torch import Tensor, nn

from leoclr.methods.contract import Batch


class Tiny(nn.Sequential):
    """Images [N, 3, H, W] to features [N, 6]."""

    feature_dim = 6

    def __init__(self) -> None:
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), pool)


def noise(step: int, *, view: int) -> Tensor:
    """Return the images [5, 3, 16, 16] of a step's view, in float64."""
    generator = torch.Generator().manual_seed(2 * step + view)
    return torch.randn(5, 3, 16, 16, generator=generator, dtype=torch.float64)


def multicrop(step: int) -> Batch:
    """Return a step's views of four images, two large and two small ones, in float64."""
    generator = torch.Generator().manual_seed(step)
    sides = (16, 16, 8, 8)
    return Batch(tuple(torch.randn(4, 3, side, side, generator=generator, dtype=torch.float64) for side in sides))
