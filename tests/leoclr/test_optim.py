import copy
import math

import pytest
import torch
from torch import Tensor, nn

from leoclr.optim import LARS, cosine, decay_groups, set_lr, sgd, step_decay, warmup_factor


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> None:
    for step in range(steps):
        images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_textbook_rule_fused(nesterov: bool) -> None:
    model, other = network(), network()
    optimizer = sgd(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=nesterov)
    assert all(group["fused"] for group in optimizer.param_groups)
    train(model, optimizer, steps=4)
    velocity = [torch.zeros_like(parameter) for parameter in other.parameters()]
    for step in range(4):
        images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        gradients = torch.autograd.grad(other(images).square().mean(), list(other.parameters()))
        with torch.no_grad():
            for moved, gradient, speed in zip(other.parameters(), gradients, velocity, strict=True):
                decayed = gradient + 1e-2 * moved
                speed.mul_(0.9).add_(decayed)
                moved -= 0.1 * (decayed + 0.9 * speed if nesterov else speed)
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()), rtol=1e-11, atol=1e-13)


def test_sgd_keeps_what_groups_say() -> None:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[3].parameters(), "lr_scale": 10.0}]
    optimizer = sgd(groups, lr=0.1, momentum=0.9, weight_decay=0.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    set_lr(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, pytest.approx(0.2)]


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
    torch.manual_seed(1)
    starts = [torch.randn(4, 3, 3, 3), torch.randn(4), torch.zeros(2, 16), torch.randn(2, 16)]
    starts = [start.double() for start in starts]
    gradients = [[torch.randn_like(start) for start in starts] for _ in range(5)]
    parameters = [nn.Parameter(start.clone()) for start in starts]
    optimizer = LARS(parameters, lr=1.0, weight_decay=1e-4)
    for step, step_gradients in enumerate(gradients):
        set_lr(optimizer, 0.5**step)
        for parameter, gradient in zip(parameters, step_gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    expected = simclr_lars(starts, gradients, excluded=[False, True, False, False])
    torch.testing.assert_close([parameter.data for parameter in parameters], expected, rtol=1e-12, atol=1e-14)


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


def test_decay_groups_split_arrays_from_vectors_and_leave_the_frozen() -> None:
    model = network()
    model[3].requires_grad_(False)
    arrays, vectors = decay_groups(model, weight_decay=1e-4)
    assert [tuple(parameter.shape) for parameter in arrays["params"]] == [(4, 3, 3, 3)]
    assert [tuple(parameter.shape) for parameter in vectors["params"]] == [(4,), (4,), (4,)]
    assert (arrays["weight_decay"], vectors["weight_decay"]) == (1e-4, 0.0)


def test_cosine_equals_mocos_formula_in_epochs() -> None:
    for epoch in range(200):
        expected = 0.03 * 0.5 * (1.0 + math.cos(math.pi * epoch / 200))
        assert cosine(0.03, epoch, total=200) == pytest.approx(expected, rel=1e-15)


def test_cosine_warms_up_then_falls_to_zero() -> None:
    rates = [cosine(4.8, step, total=100, warmup=10) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[5] == pytest.approx(2.4)
    assert rates[10] == 4.8 == max(rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(2.4)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("warmup", [-1, 100])
def test_cosine_refuses_a_warmup_that_leaves_nothing(warmup: int) -> None:
    with pytest.raises(ValueError, match="warmup"):
        cosine(0.1, 0, total=100, warmup=warmup)


def test_warmup_can_start_above_zero() -> None:
    factors = [warmup_factor(step, length=100, start=1 / 1000) for step in (0, 50, 100, 500)]
    assert factors == [0.001, pytest.approx(0.5005), 1.0, 1.0]


def test_step_decay_falls_at_each_milestone() -> None:
    rates = [step_decay(30.0, epoch, milestones=(60, 80)) for epoch in (0, 59, 60, 79, 80, 99)]
    assert rates == pytest.approx([30.0, 30.0, 3.0, 3.0, 0.3, 0.3])
