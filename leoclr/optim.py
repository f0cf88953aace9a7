"""Optimizers, parameter groups, and learning-rate schedules as pure functions of the position in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypedDict, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

_FUSED_ON = {"cpu", "cuda"}
"""Kinds of device on which torch has a fused SGD since 2.4."""


class DecayGroup(TypedDict):
    """One parameter group of an optimizer."""

    params: list[nn.Parameter]
    weight_decay: float


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
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)


class LARS(Optimizer):
    """Layer-wise adaptive rates for large batches: each array's step is scaled by eta * |weights| / |gradient|.

    Vectors and scalars (biases, batch norm) take plain momentum steps without decay. Momentum is the classic one: the
    rate enters the velocity, so that a change of rate acts on new gradients only.
    Source: You et al. 2017, arXiv:1708.03888, as in
    https://github.com/google-research/simclr/blob/036ea7baa3eeb255c88a08392fcdc1d55bb8133f/lars_optimizer.py
    (its name filter `batch_normalization|bias` is here "has at most one axis": the same parameters in a ResNet).
    """

    def __init__(
        self, parameters: ParamsT, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, eta: float = 0.001
    ) -> None:
        """Use `eta` (dimensionless, 0.001 in the source) to scale `lr`. Raises: ValueError for a negative setting."""
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay), ("eta", eta)):
            if value < 0:
                raise ValueError(f"{name}: at least 0, not {value}")
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient; return what `closure`, if any, computed."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, float]) -> None:
        state = self.state[weight]
        if not state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        velocity.mul_(group["momentum"])
        if weight.ndim <= 1:
            velocity.add_(gradient, alpha=group["lr"])
        else:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            velocity.add_(gradient * _trust(weight, gradient, eta=group["eta"]), alpha=group["lr"])
        weight.sub_(velocity)


def _trust(weight: Tensor, gradient: Tensor, *, eta: float) -> Tensor:
    weight_norm, gradient_norm = weight.norm(), gradient.norm()
    ratio = eta * weight_norm / gradient_norm
    return torch.where((weight_norm > 0) & (gradient_norm > 0), ratio, torch.ones_like(ratio))


def decay_groups(module: nn.Module, *, weight_decay: float) -> list[DecayGroup]:
    """Return the parameters that need a gradient in two groups: arrays with `weight_decay`, vectors without.

    Vectors are biases and batch norm. MoCo decays both alike: give `module.parameters()` to `sgd` instead.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the rate of every group to `lr`, times the group's own `lr_scale` where it has one (a head's, say)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def warmup_factor(position: float, *, length: float, start: float = 0.0) -> float:
    """Return what to multiply a rate by: from `start` at 0 in a straight line to 1 at `length`, then 1.

    >>> warmup_factor(25, length=100), warmup_factor(100, length=100), warmup_factor(0, length=0)
    (0.25, 1.0, 1.0)
    """
    return 1.0 if position >= length else start + (1.0 - start) * position / length


def cosine(base_lr: float, position: float, *, total: float, warmup: float = 0.0) -> float:
    """Return `base_lr` after a linear warm-up from 0 and half a cosine down to 0 at `total`.

    Position, total and warm-up count the same thing. In whole epochs without warm-up it is facebookresearch/moco's
    `--cos`, lr * 0.5 * (1 + cos(pi * epoch / epochs)); in steps it is google-research/simclr's schedule.
    Raises: ValueError unless 0 <= warmup < total.

    >>> cosine(0.03, 0, total=200), round(cosine(0.03, 100, total=200), 6), cosine(0.03, 5, total=200, warmup=10)
    (0.03, 0.015, 0.015)
    """
    if not 0 <= warmup < total:
        raise ValueError(f"warmup: at least 0 and less than the total of {total}, not {warmup}")
    if position < warmup:
        return base_lr * warmup_factor(position, length=warmup)
    return base_lr * 0.5 * (1.0 + math.cos(math.pi * (position - warmup) / (total - warmup)))


def step_decay(base_lr: float, position: float, *, milestones: Sequence[float], factor: float = 0.1) -> float:
    """Return `base_lr` times `factor` for each milestone reached (facebookresearch/moco's `--schedule`).

    >>> [round(step_decay(30.0, epoch, milestones=(60, 80)), 6) for epoch in (59, 60, 80)]
    [30.0, 3.0, 0.3]
    """
    return float(base_lr * factor ** sum(position >= milestone for milestone in milestones))
