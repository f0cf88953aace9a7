"""The slow copy of an encoder, which makes the keys of momentum contrast.

N images of one worker's batch, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leoclr import distributed
from leoclr.heads import embed
from leoclr.levels import Levels

_VIEWS = 2
"""Key views of one step at most: each has its own shuffle."""


@torch.no_grad()
def follow(slow: Sequence[nn.Module], fast: Sequence[nn.Module], *, momentum: float) -> None:
    """Move the parameters of `slow` to `momentum * slow + (1 - momentum) * fast`, module by module; no buffers."""
    behind: list[Tensor] = [parameter for module in slow for parameter in module.parameters()]
    ahead: list[Tensor] = [parameter for module in fast for parameter in module.parameters()]
    # One kernel for all: a kernel for each parameter would take about 15 % of a small step on a GPU.
    torch._foreach_lerp_(behind, ahead, 1.0 - momentum)


class SlowEncoder(nn.Module):
    """Follow a backbone and its head slowly, and encode keys without gradient.

    `update` is the only change of its parameters. Its batch-norm statistics are its own: they are not averaged, and in
    training mode a forward pass moves them, both as in
    https://github.com/facebookresearch/moco/blob/4397a04ed63a95c4a157f017a71883944003b615/moco/builder.py
    Source: He et al. 2020, arXiv:1911.05722, eq. (2) and section 3.3 ("Shuffling BN").
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        momentum: float,
        shuffle_bn: bool,
        bn_splits: int = 1,
        levels: Levels | None = None,
    ) -> None:
        """Copy `backbone` and `head` as they are; `momentum` is 0..1 per step, 1 never moves.

        With `levels` images travel to other workers as uint8, else as they are.
        With `bn_splits` above 1 their batch norm looks at so many parts of a batch, and one worker shuffles too.
        """
        super().__init__()
        self.backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.head = copy.deepcopy(head).requires_grad_(False)
        self.levels = levels
        self._momentum = momentum
        self._shuffle_bn, self._bn_splits = shuffle_bn, bn_splits
        self._step = 0

    def update(self, backbone: nn.Module, head: nn.Module, *, step: int, momentum: float | None = None) -> None:
        """Move every parameter to `momentum * slow + (1 - momentum) * fast`; `step` decides the shuffles to come.

        `momentum` replaces the one given at the start, for methods that move it over training.
        """
        self._step = step
        own = self._momentum if momentum is None else momentum
        follow([self.backbone, self.head], [backbone, head], momentum=own)

    @torch.no_grad()
    def forward(self, images_NCHW: Tensor, *, view: int) -> Tensor:
        """Return keys [N, D] of unit length; `view` (0 or 1) tells the key views of one step apart.

        With several workers and shuffled batch norm, each worker normalizes a random share of the global batch: a
        query and its key then never share their batch statistics, which would let the network find pairs by them.
        """
        if not self._shuffle_bn:
            return embed(self.backbone, self.head, images_NCHW)
        seed = self._step * _VIEWS + view
        shuffled_NCHW, order_B = self._shuffle(images_NCHW, seed=seed)
        return distributed.unshuffle(embed(self.backbone, self.head, shuffled_NCHW), order_B)

    def _shuffle(self, images_NCHW: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        parts = self._bn_splits > 1
        if self.levels is None or distributed.world_size() == 1:
            return distributed.shuffle(images_NCHW, seed=seed, even_alone=parts)
        levels_NCHW, order_B = distributed.shuffle(self.levels.rounded(images_NCHW), seed=seed, even_alone=parts)
        return self.levels.normalized(levels_NCHW, dtype=images_NCHW.dtype), order_B
