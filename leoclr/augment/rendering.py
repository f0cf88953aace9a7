"""From crops to views: flip, color, normalize a group of views on the device, by the fastest way that is there.

On a CPU that is machine code of ours for images of three channels, on a GPU one graph of torch's compiler where it is
asked for, and else one operation at a time: the same numbers within rounding.

Axes: G images of a group, view after view; C channels, 3 or 1 for images whose three channels are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leoclr.augment import native
from leoclr.augment.color import Channels, Color, apply_color, normalize
from leoclr.augment.fused import Recipe, color_fused
from leoclr.augment.groups import Group
from leoclr.augment.strong import apply_strong
from leoclr.compiling import Compile

# Values of a piece on a CPU: what one operation leaves is in the core's cache when the next begins, and there are few
# enough pieces that to start an operation costs little.
_PIECE = 2**18


class Renderer:
    """Makes normalized views of crops.

    `how`: "on" says that batches of one size come, again and again, which on a GPU pays for compiling a graph. "auto"
    is machine code on a CPU and single operations on a GPU, "off" single operations everywhere.
    """

    def __init__(self, mean: Channels, std: Channels, *, how: Compile = "auto") -> None:
        self._mean, self._std, self._how = mean, std, how

    def __call__(self, group: Group, crop_GCHW: Tensor, *, flip: bool) -> tuple[Tensor, ...]:
        """Return the crops, levels 0..255, as normalized float32 [N, 3, size, size] each, on their device.

        `flip`: whether to mirror what was drawn for it, or that is done already.
        """
        drawn = group.color()
        flip_G = group.flips() if flip else torch.zeros(len(crop_GCHW), dtype=torch.bool)
        strong = any(view.strong != "none" for view in group.views)
        on_cpu = crop_GCHW.device.type == "cpu"
        if self._how == "on" and not on_cpu and not strong:
            made_G3HW = color_fused(crop_GCHW, drawn, flip_G, Recipe.of(group, self._mean, self._std))
            return made_G3HW.chunk(len(group.views))
        fast = self._how != "off" and on_cpu and crop_GCHW.shape[1] == 3 and native.ready()
        color = native.color_native if fast else _by_pieces
        scale = None if strong else (self._mean, self._std)
        views = color(crop_GCHW, drawn, flip_G, radius=group.radius, scale=scale).chunk(len(group.views))
        return self._strengthen(group, views) if strong else views

    def _strengthen(self, group: Group, views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return colored views after their strong operations, normalized."""
        changed = (
            own_NCHW if strong is None else apply_strong(own_NCHW, strong)
            for own_NCHW, strong in zip(views, group.strong(), strict=True)
        )
        return tuple(normalize(own_NCHW, self._mean, self._std) for own_NCHW in changed)


def _by_pieces(
    crop_GCHW: Tensor, drawn: Color, flip_G: Tensor, *, radius: int, scale: tuple[Channels, Channels] | None
) -> Tensor:
    """Return the crops flipped and colored in 0..1, and normalized where mean and deviation are given."""
    count, size = len(crop_GCHW), len(crop_GCHW)
    if crop_GCHW.device.type == "cpu" and count:
        size = max(1, _PIECE // crop_GCHW[0].numel())
    pieces = []
    for start in range(0, max(count, 1), size or 1):
        part = slice(start, start + size)
        images_GCHW = _mirror(crop_GCHW[part], flip_G[part]).to(torch.float32).div_(255)
        images_GCHW = apply_color(images_GCHW, drawn.part(part), radius=radius)
        pieces.append(normalize(images_GCHW, *scale) if scale else images_GCHW)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _mirror(images_GCHW: Tensor, flip_G: Tensor) -> Tensor:
    """Return the images [G, C, H, W], contiguous, those of `flip_G` from right to left."""
    images_GCHW = images_GCHW.contiguous()
    if not flip_G.any():
        return images_GCHW
    index_M = flip_G.nonzero()[:, 0].to(images_GCHW.device, non_blocking=True)
    return images_GCHW.index_copy(0, index_M, images_GCHW[index_M].flip(-1))
