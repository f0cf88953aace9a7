import torch
from torch import nn

from leoclr.momentum import SlowEncoder


def encoder() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    return backbone.double(), nn.Linear(16, 5).double()


def test_starts_as_a_copy_that_takes_no_gradient() -> None:
    backbone, head = encoder()
    slow = SlowEncoder(backbone, head, momentum=0.9, shuffle_bn=True)
    torch.testing.assert_close(slow.backbone.state_dict(), backbone.state_dict(), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert not slow(torch.randn(2, 3, 4, 4).double(), view=0).requires_grad


def test_update_averages_parameters_one_by_one_and_leaves_buffers() -> None:
    backbone, head = encoder()
    slow = SlowEncoder(backbone, head, momentum=0.9, shuffle_bn=False)
    before = [parameter.clone() for parameter in slow.parameters()]
    with torch.no_grad():
        for parameter in [*backbone.parameters(), *head.parameters()]:
            parameter.normal_()
        backbone[1].running_mean.fill_(7.0)
    slow.update(backbone, head, step=0)
    fast = [*backbone.parameters(), *head.parameters()]
    for after, old, new in zip(slow.parameters(), before, fast, strict=True):
        torch.testing.assert_close(after, 0.9 * old + 0.1 * new, rtol=1e-13, atol=1e-15)
    assert slow.backbone[1].running_mean.count_nonzero() == 0


def test_momentum_zero_follows_and_one_stays() -> None:
    for momentum in (0.0, 1.0):
        backbone, head = encoder()
        slow = SlowEncoder(backbone, head, momentum=momentum, shuffle_bn=False)
        start = slow.head.weight.clone()
        with torch.no_grad():
            head.weight.add_(1.0)
        slow.update(backbone, head, step=0)
        torch.testing.assert_close(slow.head.weight.data, head.weight.data if momentum == 0 else start.data)


def test_forward_moves_statistics_only_in_training_mode_and_never_parameters() -> None:
    backbone, head = encoder()
    slow = SlowEncoder(backbone, head, momentum=0.9, shuffle_bn=True)
    parameters = [parameter.clone() for parameter in slow.parameters()]
    slow.eval()(torch.randn(2, 3, 4, 4).double(), view=0)
    assert slow.backbone[1].num_batches_tracked.item() == 0
    slow.train()(torch.randn(2, 3, 4, 4).double(), view=0)
    assert slow.backbone[1].num_batches_tracked.item() == 1
    torch.testing.assert_close(list(slow.parameters()), parameters, rtol=0, atol=0)
