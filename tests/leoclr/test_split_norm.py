import copy

import pytest
import torch
from torch import nn

from leoclr.backbones import build
from leoclr.split_norm import SplitBatchNorm2d, split_batchnorm


def norm(splits: int) -> SplitBatchNorm2d:
    plain = nn.BatchNorm2d(3).double()
    nn.init.uniform_(plain.weight)
    nn.init.normal_(plain.bias)
    made = split_batchnorm(plain, splits)
    assert isinstance(made, SplitBatchNorm2d)
    return made


def test_each_part_is_normalized_as_a_batch_of_its_own() -> None:
    torch.manual_seed(0)
    split = norm(4)
    parts = [nn.BatchNorm2d(3).double() for _ in range(4)]
    for part in parts:
        part.load_state_dict(split.state_dict())
    images_NCHW = torch.randn(12, 3, 5, 5, dtype=torch.float64)
    for _ in range(2):  # twice, so that running statistics start from other values the second time
        done_NCHW = split(images_NCHW)
        shared = [torch.stack([getattr(p, name) for p in parts]).mean(0) for name in ("running_mean", "running_var")]
        for part in parts:  # every part starts from the mean over the parts
            part.running_mean.copy_(shared[0])
            part.running_var.copy_(shared[1])
        for number, part in enumerate(parts):
            torch.testing.assert_close(done_NCHW[number::4], part(images_NCHW[number::4]))
    mean_C = torch.stack([part.running_mean for part in parts]).mean(0)
    torch.testing.assert_close(split.running_mean, mean_C)
    variance_C = torch.stack([part.running_var for part in parts]).mean(0)
    torch.testing.assert_close(split.running_var, variance_C)
    assert split.num_batches_tracked is not None
    assert split.num_batches_tracked.item() == 2


def test_one_part_and_evaluation_mode_are_torchs() -> None:
    torch.manual_seed(0)
    network = build("resnet18", width=2, stem="stride2").double()
    split = split_batchnorm(copy.deepcopy(network), 1)
    images_NCHW = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(split(images_NCHW), network(images_NCHW))
    torch.testing.assert_close(split.state_dict(), network.state_dict())
    halved = split_batchnorm(copy.deepcopy(network), 2)
    assert not torch.allclose(halved(images_NCHW), network(images_NCHW))
    halved.load_state_dict(network.state_dict())
    torch.testing.assert_close(halved.eval()(images_NCHW), network.eval()(images_NCHW))


def test_a_batch_that_does_not_split_is_refused() -> None:
    with pytest.raises(ValueError, match="bn_splits: 9 images"):
        norm(4)(torch.zeros(9, 3, 2, 2, dtype=torch.float64))
