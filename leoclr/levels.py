"""Normalized images as the 256 levels of a picture file, and back: a quarter of the bytes.

N images, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Channels = tuple[float, float, float]  # one number for red, green and blue, of images scaled to 0..1

_WHITE = 255  # the highest level of 8 bits


class Levels(nn.Module):
    """Map images normalized by `mean` and `std` to uint8 and back; holds both on its device, and nothing in its state.

    >>> levels = Levels((0.5,) * 3, (0.25,) * 3)
    >>> levels.normalized(levels.rounded(torch.full((1, 3, 1, 1), 2.0)), dtype=torch.float32).flatten().tolist()
    [2.0, 2.0, 2.0]
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, mean: Channels, std: Channels) -> None:
        """Keep the numbers that the images were normalized by, of images scaled to 0..1."""
        super().__init__()
        for name, numbers in (("mean_C11", mean), ("std_C11", std)):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None], persistent=False)

    @torch.no_grad()
    def rounded(self, images_NCHW: Tensor) -> Tensor:
        """Return the nearest level of each value, uint8 [N, C, H, W]; what lies outside 0..1 becomes 0 or 255."""
        shares_NCHW = torch.addcmul(self.mean_C11, images_NCHW, self.std_C11)
        return shares_NCHW.mul_(_WHITE).round_().clamp_(0, _WHITE).to(torch.uint8)

    @torch.no_grad()
    def normalized(self, levels_NCHW: Tensor, *, dtype: torch.dtype) -> Tensor:
        """Return the images of such levels in `dtype`, normalized again."""
        shares_NCHW = levels_NCHW.to(dtype, memory_format=torch.channels_last).div_(_WHITE)
        return shares_NCHW.sub_(self.mean_C11).div_(self.std_C11)
