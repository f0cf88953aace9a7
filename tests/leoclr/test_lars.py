import copy

import pytest
import torch
from torch import Tensor, nn

from leoclr.lars import LARC, LARS
from leoclr.optim import set_lr
from tests.small_training import network, train


def starts_and_gradients() -> tuple[list[Tensor], list[list[Tensor]]]:
    torch.manual_seed(1)
    starts = [torch.randn(4, 3, 3, 3), torch.randn(4), torch.zeros(2, 16), torch.randn(2, 16)]
    starts = [start.double() for start in starts]
    return starts, [[torch.randn_like(start) for start in starts] for _ in range(5)]


def moved(optimizer: torch.optim.Optimizer, gradients: list[list[Tensor]]) -> list[Tensor]:
    """Return the parameters after a step for each of `gradients`; the rate halves each step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step, step_gradients in enumerate(gradients):
        set_lr(optimizer, 0.5**step)
        for parameter, gradient in zip(parameters, step_gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.data for parameter in parameters]


def simclr_lars(weights: list[Tensor], gradients: list[list[Tensor]], *, excluded: list[bool]) -> list[Tensor]:
    """Do what google-research/simclr's lars_optimizer.py does, its filter as `excluded`; the rate halves each step."""
    weights, velocities = [weight.clone() for weight in weights], [torch.zeros_like(weight) for weight in weights]
    for step, step_gradients in enumerate(gradients):
        for i, gradient in enumerate(step_gradients):
            trust = 1.0
            if not excluded[i]:
                gradient = gradient + 1e-4 * weights[i]
                weight_norm, gradient_norm = weights[i].norm().item(), gradient.norm().item()
                trust = 0.001 * weight_norm / gradient_norm if weight_norm > 0 and gradient_norm > 0 else 1.0
            velocities[i] = 0.9 * velocities[i] + 0.5**step * trust * gradient
            weights[i] = weights[i] - velocities[i]
    return weights


def test_lars_equals_simclrs_rule() -> None:
    starts, gradients = starts_and_gradients()
    optimizer = LARS([nn.Parameter(start.clone()) for start in starts], lr=1.0, weight_decay=1e-4)
    expected = simclr_lars(starts, gradients, excluded=[False, True, False, False])
    torch.testing.assert_close(moved(optimizer, gradients), expected, rtol=1e-12, atol=1e-14)


def barlow_lars(weights: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """Do what facebookresearch/barlowtwins's main.py does, with both of its filters for vectors on."""
    weights, momenta = [weight.clone() for weight in weights], [torch.zeros_like(weight) for weight in weights]
    for step, step_gradients in enumerate(gradients):
        for p, mu, dp in zip(weights, momenta, step_gradients, strict=True):
            if p.ndim != 1:
                dp = dp.add(p, alpha=1e-4)
                param_norm, update_norm, one = torch.norm(p), torch.norm(dp), torch.ones_like(torch.norm(p))
                q = torch.where(
                    param_norm > 0.0, torch.where(update_norm > 0, 0.001 * param_norm / update_norm, one), one
                )
                dp = dp.mul(q)
            mu.mul_(0.9).add_(dp)
            p.add_(mu, alpha=-(0.5**step))
    return weights


def test_lars_with_a_late_rate_equals_barlow_twins_rule() -> None:
    starts, gradients = starts_and_gradients()
    optimizer = LARS([nn.Parameter(start.clone()) for start in starts], lr=1.0, weight_decay=1e-4, late_rate=True)
    torch.testing.assert_close(moved(optimizer, gradients), barlow_lars(starts, gradients), rtol=1e-12, atol=1e-14)


def test_lars_with_nesterov_looks_one_velocity_ahead() -> None:
    starts, gradients = starts_and_gradients()
    optimizer = LARS([nn.Parameter(starts[1].clone())], lr=1.0, nesterov=True)  # a vector: plain momentum
    theirs = torch.optim.SGD([nn.Parameter(starts[1].clone())], lr=0.5, momentum=0.9, nesterov=True)
    for gradient in [step[1] for step in gradients]:
        for each in (optimizer, theirs):
            each.param_groups[0]["lr"] = 0.5
            each.param_groups[0]["params"][0].grad = gradient.clone()
            each.step()
    ours_F, theirs_F = (each.param_groups[0]["params"][0].data for each in (optimizer, theirs))
    torch.testing.assert_close(ours_F, theirs_F, rtol=1e-12, atol=1e-14)


def test_a_plain_group_is_left_out_of_adaptation_and_decay() -> None:
    start, gradients = torch.ones(2, 2), torch.ones(2, 2)
    for kind in (LARS, LARC):
        weight = nn.Parameter(start.clone())
        weight.grad = gradients.clone()
        kind([{"params": [weight], "plain": True}], lr=0.5, weight_decay=0.1).step()
        torch.testing.assert_close(weight.data, start - 0.5 * gradients)


def apex_larc(weights: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """Do what NVIDIA/apex's LARC.py does around torch's SGD, clip=False, as facebookresearch/swav calls it."""
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    sgd = torch.optim.SGD(parameters, lr=1.0, momentum=0.9, weight_decay=0.0)
    for step, step_gradients in enumerate(gradients):
        for p, gradient in zip(parameters, step_gradients, strict=True):
            p.grad = gradient.clone()
            param_norm, grad_norm = torch.norm(p.data), torch.norm(p.grad.data)
            if param_norm != 0 and grad_norm != 0:
                adaptive_lr = 0.001 * param_norm / (grad_norm + param_norm * 1e-4 + 1e-8)
                p.grad.data += 1e-4 * p.data
                p.grad.data *= adaptive_lr
        sgd.param_groups[0]["lr"] = 0.5**step
        sgd.step()
    return [parameter.data for parameter in parameters]


def test_larc_equals_apex_rule_vectors_included() -> None:
    starts, gradients = starts_and_gradients()
    optimizer = LARC([nn.Parameter(start.clone()) for start in starts], lr=1.0, weight_decay=1e-4)
    torch.testing.assert_close(moved(optimizer, gradients), apex_larc(starts, gradients), rtol=1e-12, atol=1e-14)


def test_lars_continues_from_its_state() -> None:
    model, other = network(), network()
    whole = LARS(model.parameters(), lr=1.0, weight_decay=1e-4)
    train(model, whole, steps=2)
    other.load_state_dict(model.state_dict())
    continued = LARS(other.parameters(), lr=9.0)
    continued.load_state_dict(copy.deepcopy(whole.state_dict()))  # else both move one velocity
    train(model, whole, steps=2)
    train(other, continued, steps=2)
    torch.testing.assert_close(list(other.parameters()), list(model.parameters()), rtol=0, atol=0)


def test_lars_leaves_weights_whose_gradient_is_zero() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2)
    LARS([weight], lr=1.0).step()  # eta * |w| / 0 times 0 would be nan
    assert weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_lars_skips_frozen_parameters_and_calls_its_closure() -> None:
    frozen = nn.Parameter(torch.ones(2, 2))
    assert LARS([frozen], lr=1.0).step(lambda: 3.0) == 3.0
    assert frozen.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_lars_refuses_a_negative_setting() -> None:
    with pytest.raises(ValueError, match="eta: at least 0"):
        LARS([nn.Parameter(torch.ones(1))], lr=1.0, eta=-1.0)
