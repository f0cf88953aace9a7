"""Flip, colors and normalization of a batch in one compiled function: the numbers of `color`, within rounding.

It is for a GPU, where images are worked on all at once; `native` is for a CPU. Nothing in its graph hangs on what was
drawn, so one serves every batch of a size: each operation is computed for all images, and an image that it was not
drawn for takes neutral numbers. Fused, that costs a fraction of the passes over memory that single operations make.

Axes: G images, view after view, P numbers of an image, T taps of the blur, J the four jitter operations.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leoclr.augment.color import Channels, Color, color_steps, luma, normalize, shift_hue, tap_weights
from leoclr.augment.groups import Group
from leoclr.compiling import own_cache
from leoclr.sending import sent

Backend = str | Callable[..., Any]  # of torch.compile

_STEPS = 4  # of the jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the images of a group have in common: each recipe is compiled for itself, once."""

    mean: Channels
    std: Channels
    jitters: bool
    radius: int  # of the blur, pixels on either side; 0: there is none
    solarizes: bool

    @classmethod
    def of(cls, group: Group, mean: Channels, std: Channels) -> Recipe:
        """Return that of a group: what no view of it does is not computed."""
        views = group.views
        return cls(
            mean=mean,
            std=std,
            jitters=any(view.jitter_p > 0 and any(view.jitter) for view in views),
            radius=min(group.radius, group.size - 1) if any(view.blur_p > 0 for view in views) else 0,
            solarizes=any(view.solarize_p > 0 for view in views),
        )


def color_fused(
    images_GCHW: Tensor, drawn: Color, flip_G: Tensor, recipe: Recipe, *, backend: Backend = "inductor"
) -> Tensor:
    """Return images of levels 0..255 flipped, colored and normalized: float32 [G, 3, H, W] on their device.

    The first call with a recipe and a size of batch and views compiles, in this process or from torch's cache on disk.
    """
    rows_GP = sent(pack(drawn, flip_G, recipe), images_GCHW.device)
    return _compiled(recipe, backend)(images_GCHW, rows_GP)


@functools.cache
def _compiled(recipe: Recipe, backend: Backend) -> Callable[[Tensor, Tensor], Tensor]:
    # torch counts the graphs of a code object, and gives up on compiling it at the ninth: each recipe has its own. As a
    # default it stays a plain function: all partial ones are run by one code object of torch's.
    own = types.FunctionType(render.__code__.replace(), render.__globals__, "render")
    own.__kwdefaults__ = {"recipe": recipe}
    own_cache()
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(own, backend=backend, dynamic=False)
    return compiled


def pack(drawn: Color, flip_G: Tensor, recipe: Recipe) -> Tensor:
    """Return all that was drawn for each image as float32 [G, P], in the order in which `render` takes it apart."""
    own_GJ, luma_GJ, mean_GJ, turns_GJ = color_steps(drawn.factors_NJ, drawn.order_NJ)
    flags_G3 = torch.stack((flip_G, drawn.gray_N, drawn.threshold_N), dim=1)
    weights_GT = tap_weights(drawn.sigma_N, recipe.radius)
    return torch.cat((own_GJ, luma_GJ, mean_GJ, turns_GJ, flags_G3, weights_GT), dim=1)


def render(images_GCHW: Tensor, rows_GP: Tensor, *, recipe: Recipe) -> Tensor:
    """Return the images as `rows_GP` says: what is compiled, and runs uncompiled too."""
    own_GJ, luma_GJ, mean_GJ, turns_GJ, flags_G3, weights_GT = rows_GP.split(
        (_STEPS, _STEPS, _STEPS, _STEPS, 3, 2 * recipe.radius + 1), dim=1
    )
    flip_G111, gray_G111, threshold_G111 = flags_G3[..., None, None, None].unbind(1)
    images_GCHW = images_GCHW.to(torch.float32) / 255
    images_GCHW = torch.where(flip_G111 > 0, images_GCHW.flip(-1), images_GCHW)
    for step in range(_STEPS if recipe.jitters else 0):
        own_G111, dark_G111, even_G111 = (part_GJ[:, step, None, None, None] for part_GJ in (own_GJ, luma_GJ, mean_GJ))
        luma_G1HW = luma(images_GCHW)
        mean_G111 = luma_G1HW.mean((2, 3), keepdim=True)
        images_GCHW = images_GCHW * own_G111 + (luma_G1HW * dark_G111 + even_G111 * mean_G111)
        images_GCHW = images_GCHW.clamp(0, 1)
        if images_GCHW.shape[1] == 3:
            turns_G = turns_GJ[:, step]
            turned_GCHW = shift_hue(images_GCHW, turns_G)
            images_GCHW = torch.where(turns_G[:, None, None, None] != 0, turned_GCHW, images_GCHW)
    images_GCHW = torch.where(gray_G111 > 0, luma(images_GCHW), images_GCHW)
    if recipe.radius:
        images_GCHW = _blur(_blur(images_GCHW, weights_GT, dim=2), weights_GT, dim=3)
    if recipe.solarizes:
        images_GCHW = torch.where(images_GCHW < threshold_G111, images_GCHW, 1 - images_GCHW)
    return normalize(images_GCHW, recipe.mean, recipe.std)


def _blur(images_GCHW: Tensor, weights_GT: Tensor, *, dim: int) -> Tensor:
    """Return the images filtered along one dimension, edges reflected."""
    side, radius = images_GCHW.shape[dim], weights_GT.shape[1] // 2
    low, high = (
        images_GCHW.narrow(dim, 1, radius).flip(dim),
        images_GCHW.narrow(dim, side - 1 - radius, radius).flip(dim),
    )
    wide_GCHW = torch.cat((low, images_GCHW, high), dim=dim)
    taps = (wide_GCHW.narrow(dim, tap, side) * weights_GT[:, tap, None, None, None] for tap in range(2 * radius + 1))
    return functools.reduce(torch.add, taps)
