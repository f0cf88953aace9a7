"""Optimizers, parameter groups, and learning-rate schedules as pure functions of the position in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.optim.optimizer import Optimizer, ParamsT

_FUSED_ON = {"cpu", "cuda"}
"""Kinds of device on which torch has a fused SGD since 2.4."""


def sgd(
    parameters: ParamsT, *, lr: float, momentum: float, weight_decay: float, nesterov: bool = False
) -> torch.optim.SGD:
    """Return torch's SGD (decay added to the gradient, one kernel for all parameters where there is one).

    `parameters` are parameters or groups, already on their device; a group's own `lr` or `weight_decay` wins.
    """
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    kinds = {parameter.device.type for group in optimizer.param_groups for parameter in group["params"]}
    if not kinds <= _FUSED_ON:
        return optimizer
    # Made again from its groups, which are complete: only now the devices are known, and an iterator is used up.
    groups = [{**group, "fused": True} for group in optimizer.param_groups]
    fused = torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
    for group in fused.param_groups:
        if group["momentum"]:  # the fused kernel fails where a parameter had no gradient at first and others had
            fused.state.update({each: {"momentum_buffer": torch.zeros_like(each)} for each in group["params"]})
    return fused


def set_lr(optimizer: Optimizer, lr: float, *, fixed: float | None = None) -> None:
    """Set the rate of every group to `lr`, times the group's own `lr_scale` where it has one (a head's, say).

    Groups marked `fixed_rate` get the rate `fixed` instead of `lr`.
    """
    for group in optimizer.param_groups:
        rate = fixed if fixed is not None and group.get("fixed_rate", False) else lr
        group["lr"] = rate * group.get("lr_scale", 1.0)


def warmup_factor(position: float, *, length: float, start: float = 0.0) -> float:
    """Return what to multiply a rate by: from `start` at 0 in a straight line to 1 at `length`, then 1.

    >>> warmup_factor(25, length=100), warmup_factor(100, length=100), warmup_factor(0, length=0)
    (0.25, 1.0, 1.0)
    """
    return 1.0 if position >= length else start + (1.0 - start) * position / length


def cosine(
    base_lr: float, position: float, *, total: float, warmup: float = 0.0, start: float = 0.0, end: float = 0.0
) -> float:
    """Return `base_lr` after a linear warm-up and half a cosine down at `total`.

    The warm-up begins at the share `start` of `base_lr`, the cosine ends at the share `end` of it.

    Position, total and warm-up count the same thing. In whole epochs without warm-up it is facebookresearch/moco's
    `--cos`, lr * 0.5 * (1 + cos(pi * epoch / epochs)); in steps it is google-research/simclr's schedule.
    Raises: ValueError unless 0 <= warmup < total.

    >>> cosine(0.03, 0, total=200), round(cosine(0.03, 100, total=200), 6), cosine(0.03, 5, total=200, warmup=10)
    (0.03, 0.015, 0.015)
    """
    if not 0 <= warmup < total:
        raise ValueError(f"warmup: at least 0 and less than the total of {total}, not {warmup}")
    if position < warmup:
        return base_lr * warmup_factor(position, length=warmup, start=start)
    falling = 0.5 * (1.0 + math.cos(math.pi * (position - warmup) / (total - warmup)))
    return base_lr * (end + (1.0 - end) * falling) if end else base_lr * falling


def step_decay(base_lr: float, position: float, *, milestones: Sequence[float], factor: float = 0.1) -> float:
    """Return `base_lr` times `factor` for each milestone reached (facebookresearch/moco's `--schedule`).

    >>> [round(step_decay(30.0, epoch, milestones=(60, 80)), 6) for epoch in (59, 60, 80)]
    [30.0, 3.0, 0.3]
    """
    return float(base_lr * factor ** sum(position >= milestone for milestone in milestones))
