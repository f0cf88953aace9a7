"""Measured statistics against those of all positions at once, for batches of unlike size."""

from __future__ import annotations

import torch
from torch import nn

from leoclr.evaluate import precise_norm

BATCHES = [
    torch.randn(n, 4, h, 5, generator=torch.Generator().manual_seed(n)) * n + 3 for n, h in ((2, 3), (5, 9), (1, 4))
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(4, momentum=0.3), nn.Conv2d(4, 6, 1), nn.ReLU(), nn.BatchNorm2d(6, momentum=None)
    )


def test_statistics_are_those_of_all_positions_together() -> None:
    net = network()
    seen: list[torch.Tensor] = []
    net[3].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].transpose(0, 1).flatten(1)))
    precise_norm.measure(net, lambda step: net(BATCHES[step]), steps=3)
    first = torch.cat([batch.transpose(0, 1).flatten(1) for batch in BATCHES], dim=1)
    for norm, positions in ((net[0], first), (net[3], torch.cat(seen, dim=1))):
        torch.testing.assert_close(norm.running_mean, positions.mean(1))
        torch.testing.assert_close(norm.running_var, positions.var(1, correction=0))
    assert (net[0].momentum, net[3].momentum) == (0.3, None)


def test_nothing_is_left_behind() -> None:
    net = network()
    precise_norm.measure(net, lambda step: net(BATCHES[step]), steps=2)
    measured = net[0].running_mean.clone()
    assert not net[0]._forward_pre_hooks
    net(BATCHES[2])
    torch.testing.assert_close(net[0].running_mean, 0.7 * measured + 0.3 * BATCHES[2].mean(dim=(0, 2, 3)))


def test_no_steps_change_nothing() -> None:
    net = network()
    net(BATCHES[0])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    precise_norm.measure(net, lambda step: net(BATCHES[step]), steps=0)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
