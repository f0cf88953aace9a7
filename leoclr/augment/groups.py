"""What is drawn for the views of a batch, and which views can be made together.

Axes: N images, V views of a group, G = V N images of a group, view after view, U random numbers of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leoclr.augment.color import COLOR_DRAWS, Color, blur_radius, draw_color, join_colors
from leoclr.augment.crop import BOX_DRAWS, draw_boxes
from leoclr.augment.draw import uniform
from leoclr.augment.strong import PICK_DRAWS, Strong, draw_strong
from leoclr.augment.views import View

Indices = NDArray[np.int64]

# Streams of `draw.uniform`; what else draws by image takes another. The first holds the numbers that every view reads,
# view after view. View v has a stream of its own, _OWN_STREAM + v, for those that few views read.
_STREAM, _OWN_STREAM = 0, 2**16
# Random numbers of one view of one image: its box, its flip, its colors, its strong operations. Its own stream begins
# with the last one of its colors, solarize or not.
_FLIP = BOX_DRAWS
_COLOR = slice(BOX_DRAWS + 1, BOX_DRAWS + 1 + COLOR_DRAWS)
_STRONG = slice(_COLOR.stop, None)
_DRAWS = _COLOR.stop - 1


@dataclass(frozen=True, slots=True)
class Group:
    """Neighboring views of one size, with the random numbers [N, U] of each."""

    views: tuple[View, ...]
    draws: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """The side of the views, pixels."""
        return self.views[0].size

    @property
    def radius(self) -> int:
        """The blur's, pixels."""
        return blur_radius(self.views[0])

    def boxes(self, heights_N: Tensor, widths_N: Tensor) -> Tensor:
        """Return what is cut out of images of these sides: [G, 4], see `crop.draw_boxes`."""
        pairs = zip(self.views, self.draws, strict=True)
        return torch.cat([draw_boxes(view, draws_NU[:, :BOX_DRAWS], heights_N, widths_N) for view, draws_NU in pairs])

    def flips(self) -> Tensor:
        """Return which views are mirrored, bool [G]."""
        pairs = zip(self.views, self.draws, strict=True)
        return torch.cat([draws_NU[:, _FLIP] < view.flip_p for view, draws_NU in pairs])

    def color(self) -> Color:
        """Return the color parameters of all views, view after view."""
        pairs = zip(self.views, self.draws, strict=True)
        return join_colors([draw_color(view, draws_NU[:, _COLOR]) for view, draws_NU in pairs])

    def strong(self) -> list[Strong | None]:
        """Return the strong operations of each view that has some."""
        pairs = zip(self.views, self.draws, strict=True)
        return [draw_strong(view, draws_NU[:, _STRONG]) if view.strong != "none" else None for view, draws_NU in pairs]


def draw_groups(views: Sequence[View], *, seed: int, epoch: int, indices: Indices) -> list[Group]:
    """Return the views with their random numbers, neighbors that one batch can hold together.

    On small images most of the time goes into starting operations, and three views in one batch start a third as many.
    """
    pairs = zip(views, _draw(seed, epoch, indices, views), strict=True)
    runs = groupby(pairs, key=lambda pair: (pair[0].size, blur_radius(pair[0])))
    return [Group(*(tuple(column) for column in zip(*run, strict=True))) for _, run in runs]


def _draw(seed: int, epoch: int, indices: Indices, views: Sequence[View]) -> tuple[Tensor, ...]:
    """Return the random numbers [N, U] of each view: one draw for all, as many numbers cost little more than few."""
    indices_N = torch.from_numpy(indices)
    draws_NU = uniform(seed, epoch, indices_N, stream=_STREAM, count=len(views) * _DRAWS)
    parts = enumerate(zip(views, draws_NU.chunk(len(views), dim=1), strict=True))
    return tuple(
        torch.cat((part_NU, _draw_own(view, seed, epoch, indices_N, stream=_OWN_STREAM + place)), dim=1)
        for place, (view, part_NU) in parts
    )


def _draw_own(view: View, seed: int, epoch: int, indices_N: Tensor, *, stream: int) -> Tensor:
    """Return the numbers for solarization and strong operations [N, U]; a view without both reads none: zeros."""
    picks = view.strong_picks if view.strong != "none" else 0
    if picks == 0 and view.solarize_p == 0:
        return torch.zeros(len(indices_N), 1)
    return uniform(seed, epoch, indices_N, stream=stream, count=1 + picks * PICK_DRAWS)
