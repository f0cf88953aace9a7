"""Batch norm's test statistics, measured over many batches with fixed weights, in the place of running averages.

Running averages lag behind weights that still move. Source: `update_bn_stats` with its `_PopulationVarianceEstimator`,
facebookresearch/fvcore at 3378afe0d71dc2aa95e358bc78dc9b67cb48825a, fvcore/nn/precise_bn.py; Wu and Johnson 2021,
"Rethinking Batch in BatchNorm", arXiv:2105.07576, section 3. Earlier releases of fvcore averaged the variances of the
batches instead, each batch alike. L norms, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leoclr import distributed


class _Population:
    """Mean and variance of all positions that a norm saw, batch by batch, in float64."""

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm = norm
        self.mean_C: Tensor = torch.zeros_like(_buffer(norm.running_mean), dtype=torch.float64)
        self.square_C = self.mean_C.clone()
        self.positions = 0.0

    def add(self, positions: float) -> None:
        """Take in the batch of `positions` whose statistics the running ones now are."""
        self.positions += positions
        mean_C, variance_C = _buffer(self.norm.running_mean).double(), _buffer(self.norm.running_var).double()
        # torch's running variance is the unbiased one: back to the plain one, then to the mean of squares.
        square_C = mean_C**2 + variance_C * ((positions - 1) / positions)
        share = positions / self.positions
        self.mean_C += (mean_C - self.mean_C) * share
        self.square_C += (square_C - self.square_C) * share

    def put(self) -> None:
        """Make them the norm's running statistics."""
        _buffer(self.norm.running_mean).copy_(self.mean_C)
        _buffer(self.norm.running_var).copy_(self.square_C - self.mean_C**2)


@torch.no_grad()
def measure(module: nn.Module, run: Callable[[int], object], *, steps: int) -> None:
    """Set the running statistics of each batch norm of `module` to those of all that passes it in `steps` batches.

    `run(step)` passes batch `step`, counted from 0, through `module`, which must be in training mode. Norms that are
    synchronized over workers are measured over all workers' positions; nothing changes where `steps` is 0.
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.running_mean is not None]
    if not norms or not steps:
        return
    populations = [_Population(norm) for norm in norms]
    positions_L = torch.zeros(len(norms), device=_buffer(norms[0].running_mean).device, dtype=torch.float64)
    with ExitStack() as after:
        for index, norm in enumerate(norms):
            after.callback(setattr, norm, "momentum", norm.momentum)
            norm.momentum = 1.0  # the running statistics are then the last batch's
            after.enter_context(norm.register_forward_pre_hook(partial(_count, positions_L, index)))
        for step in range(steps):
            run(step)
            for population, positions in zip(populations, _over_workers(norms, positions_L), strict=True):
                population.add(positions)
    for population in populations:
        population.put()


def _count(positions_L: Tensor, index: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    positions_L[index] = inputs[0].numel() // inputs[0].shape[1]


def _over_workers(norms: list[_BatchNorm], positions_L: Tensor) -> list[float]:
    """Return how many positions each norm's statistics are of: its worker's, or all workers' if it is synchronized."""
    all_L = distributed.gather(positions_L[None]).sum(dim=0)
    alone = [isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) for norm in norms]
    return torch.where(torch.tensor(alone, device=all_L.device), positions_L, all_L).tolist()


def _buffer(values: Tensor | None) -> Tensor:
    assert values is not None  # `measure` takes norms that track their statistics
    return values
