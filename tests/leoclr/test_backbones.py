import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from leoclr.backbones import BACKBONES, build


@pytest.mark.parametrize("name", BACKBONES)
def test_torchvision_weights_load_and_give_equal_features(name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(resnet, name)(weights=None)
    theirs.fc = nn.Identity()
    ours = build(name)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images_NCHW = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        torch.testing.assert_close(ours(images_NCHW), theirs(images_NCHW), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", ["imagenet", "cifar", "stride2"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_says_its_sizes(name: str, stem: str) -> None:
    backbone = build(name, width=4, stem=stem)
    maps_NCHW, images_NCHW = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    sides = []
    for stage in backbone.stages().values():
        maps_NCHW = stage(maps_NCHW)
        sides.append(maps_NCHW.shape[2])
    assert sides[3] == 64 // backbone.reduction
    assert backbone(images_NCHW).shape == (2, backbone.feature_dim)
    assert backbone.layer_channels[-1] == backbone.feature_dim == maps_NCHW.shape[1]


def test_stages_are_the_forward_pass_taken_apart() -> None:
    backbone = build("resnet18", width=4, stem="stride2").eval()
    maps_NCHW = images_NCHW = torch.randn(2, 3, 28, 28)
    for stage in backbone.stages().values():
        maps_NCHW = stage(maps_NCHW)
    torch.testing.assert_close(backbone(images_NCHW), maps_NCHW.mean(dim=(2, 3)))
    shared = {id(parameter) for stage in backbone.stages().values() for parameter in stage.parameters()}
    assert shared == {id(parameter) for parameter in backbone.parameters()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_blocks_start_as_their_shortcuts_as_torchvisions_do(name: str) -> None:
    torch.manual_seed(0)
    plain = build(name, width=4)
    torch.manual_seed(0)
    ours = build(name, width=4, zero_init_residual=True)
    theirs = getattr(resnet, name)(weights=None, zero_init_residual=True)
    zeros = {key for key, tensor in theirs.state_dict().items() if key.endswith(".weight") and not tensor.any()}
    assert len(zeros) == sum(BACKBONES[name][1])
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, torch.zeros_like(tensor) if key in zeros else plain.state_dict()[key])


def test_convolutions_start_as_hes() -> None:
    torch.manual_seed(0)
    backbone = build("resnet18")
    weight = backbone.layer3[0].conv2.weight  # 256 channels of 3x3 out: std = sqrt(2 / (256 * 9))
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "no backbone is called 'resnet19'"),
        ({"name": "resnet18", "stem": "big"}, "no stem is called 'big'"),
        ({"name": "resnet18", "width": 0}, "width: at least one channel"),
    ],
)
def test_refuses_what_does_not_exist(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)


# Batch norm is not trained: of as few numbers as here, it makes differences of rounding large.
GRADIENTS = """
import copy, torch
from leoclr import backbones
torch.set_num_threads(1)
for width in (1, 2, 3, 4, 7, 8):
    torch.manual_seed(width)
    exact = backbones.build("resnet18", width=width, stem="stride2").double().eval()
    network = copy.deepcopy(exact).float().to(memory_format=torch.channels_last)
    for _ in range(10):
        images_NCHW = torch.randn(8, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        for each, images in ((network, images_NCHW), (exact, images_NCHW.double().contiguous())):
            each.zero_grad()
            each(images).square().mean().backward()
    for (name, own), wanted in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert torch.allclose(own.grad.double(), wanted.grad, rtol=1e-2, atol=1e-3 * wanted.grad.abs().max()), name
"""


def test_narrow_networks_have_gradients_on_processors_without_avx512() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # whatever this one has; oneDNN issue 6035
    done = subprocess.run([sys.executable, "-c", GRADIENTS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
