"""Both sides of the comparison train on all views, and compute the same loss from the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.step_peers import Lightly, Ours, Size, noise
from leoclr.methods.contract import Batch

CPU = torch.device("cpu")
SIZE = Size("resnet18", "stride2", side=16, batch=4, width=4)


def test_lightlys_side_is_leoclr() -> None:
    torch.manual_seed(0)
    views, ours, theirs = noise(SIZE, 3, CPU), Ours("leoclr", SIZE, CPU), Lightly(SIZE, CPU)
    method: Any = ours.stepper.method
    theirs.backbone.load_state_dict(method.backbone.state_dict())
    theirs.backbone_momentum.load_state_dict(method.backbone.state_dict())
    for head in (theirs.projection_head, theirs.projection_head_momentum):
        for own, other in zip(head.parameters(), method.head.parameters(), strict=True):
            own.data.copy_(other.data)
    theirs.criterion(torch.randn(4, 128, requires_grad=True), torch.randn(4, 128))  # makes its memory bank
    bank = theirs.criterion.memory_bank
    bank.bank.copy_(functional.normalize(torch.randn(bank.bank.shape), dim=1))
    method.queue.keys_KD.copy_(bank.bank)
    expected: Tensor = method(Batch(views)).loss
    # Its memory takes the first term's keys before the second term looks: of 65,536 negatives, four are others
    theirs.take(views)
    torch.testing.assert_close(torch.as_tensor(theirs.total_loss), expected.detach(), rtol=1e-4, atol=0)


def test_a_step_of_either_side_trains() -> None:
    torch.manual_seed(0)
    views, ours, theirs = noise(SIZE, 3, CPU), Ours("leoclr", SIZE, CPU), Lightly(SIZE, CPU)
    for side, network in ((ours, ours.stepper.method), (theirs, theirs)):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        side.take(views)
        side.take(views)
        moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
        assert sum(moved) > len(moved) - 2
