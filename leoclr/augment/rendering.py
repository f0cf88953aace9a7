"""From crops to views: flip, color, normalize a group of views on the device, compiled or one operation at a time.

Axes: G images of a group, view after view; C channels, 3 or 1 for images whose three channels are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leoclr.augment.color import Channels, Color, apply_color, normalize
from leoclr.augment.fused import Recipe, color_fused
from leoclr.augment.groups import Group
from leoclr.augment.strong import apply_strong

# Values of a piece on a CPU: what one operation leaves is in the core's cache when the next begins, and there are few
# enough pieces that to start an operation costs little.
_PIECE = 2**18


class Renderer:
    """Makes normalized views of crops; `compiled`: by `color_fused`, where a group has no strong operations."""

    def __init__(self, mean: Channels, std: Channels, *, compiled: bool = False) -> None:
        self._mean, self._std = mean, std
        self._compiled = compiled

    def __call__(self, group: Group, crop_GCHW: Tensor, *, flip: bool) -> tuple[Tensor, ...]:
        """Return the crops, levels 0..255, as normalized float32 [N, 3, size, size] each, on their device.

        `flip`: whether to mirror what was drawn for it, or that is done already.
        """
        drawn = group.color()
        flip_G = group.flips() if flip else torch.zeros(len(crop_GCHW), dtype=torch.bool)
        if any(view.strong != "none" for view in group.views):
            colored_GCHW = _by_pieces(crop_GCHW, drawn, flip_G, radius=group.radius)
            views = colored_GCHW.chunk(len(group.views))
            changed = (
                own_NCHW if strong is None else apply_strong(own_NCHW, strong)
                for own_NCHW, strong in zip(views, group.strong(), strict=True)
            )
            return tuple(normalize(own_NCHW, self._mean, self._std) for own_NCHW in changed)
        if self._compiled:
            made_G3HW = color_fused(crop_GCHW, drawn, flip_G, Recipe.of(group, self._mean, self._std))
        else:
            made_G3HW = _by_pieces(crop_GCHW, drawn, flip_G, radius=group.radius, scale=(self._mean, self._std))
        return made_G3HW.chunk(len(group.views))


def _by_pieces(
    crop_GCHW: Tensor, drawn: Color, flip_G: Tensor, *, radius: int, scale: tuple[Channels, Channels] | None = None
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
