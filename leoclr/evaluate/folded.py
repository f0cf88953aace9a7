"""A copy of a backbone that only looks: batch norms folded into the convolutions before them, in either precision.

At rest a batch norm scales and shifts each channel by constants, which a convolution's weights and bias can carry. That
saves a pass over every map, and lets a network run in bfloat16 without normalizing in it.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from leoclr.backbones import Backbone

Precision = Literal["fp32", "bf16"]
"""Of a frozen backbone's forward pass. Features are float32 in both; bf16 moves them by about half a percent."""


class Folded(nn.Module):
    """A backbone at rest with its batch norms folded; the one that it was made from stays as it is.

    Source: torch.nn.utils.fusion.fuse_conv_bn_eval; here the products are taken in float64 and rounded once.
    """

    def __init__(self, backbone: Backbone, precision: Precision = "fp32") -> None:
        super().__init__()
        made = copy.deepcopy(backbone).eval().requires_grad_(False)
        for module in list(made.modules()):
            _fold_children(module)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.backbone = made.to(self.dtype).to(memory_format=torch.channels_last)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return float32 features [N, F]."""
        shown_NCHW = images_NCHW.to(self.dtype, memory_format=torch.channels_last)
        features_NF: Tensor = self.backbone(shown_NCHW)
        return features_NF.float()


def _fold_children(parent: nn.Module) -> None:
    """Fold the batch norms among the children of `parent` that follow their convolution by torchvision's names."""
    children = dict(parent.named_children())
    for name, norm in children.items():
        before = str(int(name) - 1) if name.isdigit() else name.replace("bn", "conv")
        convolution = children.get(before)
        if isinstance(norm, _BatchNorm) and isinstance(convolution, nn.Conv2d):
            setattr(parent, before, _fused(convolution, norm))
            setattr(parent, name, nn.Identity())


def _fused(convolution: nn.Conv2d, norm: _BatchNorm) -> nn.Conv2d:
    mean_C, variance_C = norm.running_mean, norm.running_var
    assert mean_C is not None  # every backbone's norms track their statistics
    assert variance_C is not None
    bias_C = None if convolution.bias is None else convolution.bias.double()
    weight, bias_C = fuse_conv_bn_weights(
        convolution.weight.double(),
        bias_C,
        mean_C.double(),
        variance_C.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    made = copy.deepcopy(convolution)
    made.weight = nn.Parameter(weight.to(convolution.weight.dtype), requires_grad=False)
    made.bias = nn.Parameter(bias_C.to(convolution.weight.dtype), requires_grad=False)
    return made
