"""Layer-wise adaptive rates for large batches: LARS in its two published forms, and LARC.

All scale each array's step by eta * |weights| / |gradient|. They differ in where the rate enters the momentum, in what
they do to vectors (biases, batch norm), and in the order of decay and norm: small things that move numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

_LARC_EPS = 1e-8  # apex, LARC.py


class _LayerWise(Optimizer):
    """The step that all share: `_move` each parameter that has a gradient."""

    def __init__(self, parameters: ParamsT, **defaults: Any) -> None:
        for name, value in defaults.items():
            if value < 0:
                raise ValueError(f"{name}: at least 0, not {value}")
        super().__init__(parameters, defaults)

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

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        return velocity


class LARS(_LayerWise):
    """LARS: biases, batch norm and groups marked `plain` take plain momentum steps without decay.

    `late_rate` tells the two forms apart. False, SimCLR's: the rate enters the velocity, so that a change of rate acts
    on new gradients only. True, that of BYOL, Barlow Twins and VICReg: the velocity is scaled by today's rate.
    Sources: You et al. 2017, arXiv:1708.03888;
    https://github.com/google-research/simclr/blob/036ea7baa3eeb255c88a08392fcdc1d55bb8133f/lars_optimizer.py
    (its name filter `batch_normalization|bias` is here "has at most one axis": the same parameters in a ResNet);
    facebookresearch/barlowtwins, main.py, class LARS.
    """

    def __init__(
        self,
        parameters: ParamsT,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.001,
        late_rate: bool = False,
        nesterov: bool = False,
    ) -> None:
        """Use `eta` (dimensionless, 0.001 in all sources) to scale `lr`. Raises: ValueError for a negative setting."""
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, eta=eta)
        self._late_rate, self._nesterov = late_rate, nesterov

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1 and not group.get("plain", False):
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            gradient = gradient * _trust(weight, gradient, eta=group["eta"])
        rate_in, rate_out = (1.0, group["lr"]) if self._late_rate else (group["lr"], 1.0)
        velocity = self._velocity(weight)
        velocity.mul_(group["momentum"]).add_(gradient, alpha=rate_in)
        if self._nesterov:  # lars_optimizer.py: momentum * velocity + scaled gradient
            weight.sub_(velocity * group["momentum"] + gradient * rate_in, alpha=rate_out)
        else:
            weight.sub_(velocity, alpha=rate_out)


class LARC(_LayerWise):
    """SGD on gradients scaled layer by layer, vectors included, as SwAV trains.

    Source: NVIDIA/apex, apex/parallel/LARC.py with clip=False, around torch's SGD; the decay is added before the
    scaling and its weight enters the norm: |w| / (|g| + decay * |w|).
    """

    def __init__(
        self, parameters: ParamsT, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, eta: float = 0.001
    ) -> None:
        """Use `eta` (dimensionless; SwAV's trust_coefficient=0.001). Raises: ValueError for a negative setting."""
        super().__init__(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, eta=eta)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if not group.get("plain", False):
            decay, weight_norm, gradient_norm = group["weight_decay"], weight.norm(), gradient.norm()
            scale = group["eta"] * weight_norm / (gradient_norm + weight_norm * decay + _LARC_EPS)
            scaled = gradient.add(weight, alpha=decay) * scale
            gradient = torch.where((weight_norm > 0) & (gradient_norm > 0), scaled, gradient)
        velocity = self._velocity(weight)
        velocity.mul_(group["momentum"]).add_(gradient)
        weight.sub_(velocity, alpha=group["lr"])


def _trust(weight: Tensor, gradient: Tensor, *, eta: float) -> Tensor:
    weight_norm, gradient_norm = weight.norm(), gradient.norm()
    ratio = eta * weight_norm / gradient_norm
    return torch.where((weight_norm > 0) & (gradient_norm > 0), ratio, torch.ones_like(ratio))
