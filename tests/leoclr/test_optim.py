import math

import pytest
import torch
from torch import nn

from leoclr.optim import cosine, set_lr, sgd, step_decay, warmup_factor
from tests.small_training import network, train


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


def test_a_parameter_may_rest_at_the_start() -> None:
    moved, resting = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = sgd([moved, resting], lr=0.1, momentum=0.9, weight_decay=0.0)
    for step in range(3):
        moved.grad = torch.ones_like(moved)
        resting.grad = torch.ones_like(resting) if step else None
        optimizer.step()
    torch.testing.assert_close(moved.data, torch.full_like(moved, 1 - 0.1 * (1 + 1.9 + 2.71)))
    torch.testing.assert_close(resting.data, torch.full_like(resting, 1 - 0.1 * (1 + 1.9)))


def test_sgd_keeps_what_groups_say() -> None:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[3].parameters(), "lr_scale": 10.0}]
    optimizer = sgd(groups, lr=0.1, momentum=0.9, weight_decay=0.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    set_lr(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, pytest.approx(0.2)]


def test_cosine_equals_mocos_formula_in_epochs() -> None:
    for epoch in range(200):
        expected = 0.03 * 0.5 * (1.0 + math.cos(math.pi * epoch / 200))
        assert cosine(0.03, epoch, total=200) == pytest.approx(expected, rel=1e-15)


def test_cosine_between_shares_is_swavs_schedule() -> None:
    # main_swav.py, but for its linspace, which reaches base_lr one step before the cosine starts there again:
    # start_warmup + (base_lr - start_warmup) * t / 10, then final_lr + 0.5 * (base_lr - final_lr) * (1 + cos(pi t / T))
    base_lr, start_warmup, final_lr = 4.8, 0.3, 0.0048
    values = [cosine(4.8, t, total=100, warmup=10, start=0.3 / 4.8, end=0.001) for t in range(100)]
    rising = [start_warmup + (base_lr - start_warmup) * t / 10 for t in range(10)]
    falling = [final_lr + 0.5 * (base_lr - final_lr) * (1 + math.cos(math.pi * t / 90)) for t in range(90)]
    assert values == pytest.approx(rising + falling, rel=1e-12)


def test_set_lr_leaves_groups_whose_rate_is_fixed() -> None:
    first, second = (nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch.optim.SGD(
        [{"params": [first]}, {"params": [second], "fixed_rate": True, "lr_scale": 2.0}], lr=1.0
    )
    set_lr(optimizer, 0.25, fixed=1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 2.0]


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
