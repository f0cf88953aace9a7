"""A folded backbone against the network that it was folded from: the same features, and nothing of the first moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leoclr import backbones
from leoclr.backbones import Backbone, Stem
from leoclr.distributed_norm import convert_sync_batchnorm
from leoclr.evaluate import features
from leoclr.evaluate.folded import Folded
from leoclr.split_norm import split_batchnorm


def trained(name: str, *, width: int = 4, stem: Stem = "stride2") -> Backbone:
    """Return a backbone whose norms look as after a training: no scale, shift, mean or variance is left as it began."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    backbone = backbones.build(name, width=width, stem=stem)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.3, generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return backbone.eval()


def images() -> Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def distance(found_NF: Tensor, expected_NF: Tensor) -> float:
    """Return the largest distance of a row from what it should be, as a share of its length."""
    return float(((found_NF.double() - expected_NF).norm(dim=1) / expected_NF.norm(dim=1)).max())


@pytest.mark.parametrize("name", backbones.BACKBONES)
@pytest.mark.parametrize("stem", ["imagenet", "stride2"])
@torch.no_grad()
def test_features_are_those_of_the_unfolded_network_to_float32s_rounding(name: str, stem: Stem) -> None:
    backbone = trained(name, stem=stem)
    digest = features.digest(backbone)
    folded = Folded(backbone)
    assert not [module for module in folded.modules() if isinstance(module, _BatchNorm)]
    expected_NF = trained(name, stem=stem).double()(images().double())
    assert distance(folded(images()), expected_NF) < 1e-5
    assert features.digest(backbone) == digest


@pytest.mark.parametrize("kind", ["split", "synchronized"])
@torch.no_grad()
def test_every_kind_of_norm_is_folded(kind: str) -> None:
    other = trained("resnet18")
    made = split_batchnorm(other, 2) if kind == "split" else convert_sync_batchnorm(other)
    assert isinstance(made, Backbone)
    folded = Folded(made)
    assert not [module for module in folded.modules() if isinstance(module, _BatchNorm)]
    assert distance(folded(images()), trained("resnet18").double()(images().double())) < 1e-5


@torch.no_grad()
def test_a_backbone_in_training_mode_is_folded_at_rest_and_left_in_its_mode() -> None:
    backbone = trained("resnet18").train()
    folded_NF = Folded(backbone)(images())
    assert backbone.training and all(parameter.requires_grad for parameter in backbone.parameters())
    assert distance(folded_NF, trained("resnet18").double()(images().double())) < 1e-5


@pytest.mark.parametrize("name", backbones.BACKBONES)
@torch.no_grad()
def test_bf16_gives_float32_features_to_bfloat16s_rounding(name: str) -> None:
    found_NF = Folded(trained(name, width=16), "bf16")(images())
    assert found_NF.dtype == torch.float32
    off = distance(found_NF, trained(name, width=16).double()(images().double()))
    assert 1e-4 < off < 0.02  # five roundings of a value; in a wide and trained network errors cancel to half a percent
