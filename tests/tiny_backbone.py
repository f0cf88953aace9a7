"""The smallest network that a method takes: one convolution with batch norm."""

import torch
from torch import Tensor, nn


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
