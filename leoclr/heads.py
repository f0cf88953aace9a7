"""What sits on a backbone: projection heads while pre-training, a linear classifier afterwards.

N images of one worker's batch, F feature values, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Projection = Literal["mlp", "linear"]
"""mlp: MoCo-v2's two layers, the hidden one as wide as the features; linear: MoCo-v1's one layer."""


def projection(feature_dim: int, dim: int, *, kind: Projection) -> nn.Sequential:
    """Return the head that maps features [N, F] to embeddings [N, D], D = `dim`, not yet of unit length.

    Weights are drawn by torch's default for linear layers, as in facebookresearch/moco.
    Source: Chen et al. 2020, arXiv:2003.04297, section 3: Linear(2048, 2048) - ReLU - Linear(2048, 128) on ResNet-50.
    """
    if kind == "linear":
        return nn.Sequential(nn.Linear(feature_dim, dim))
    return nn.Sequential(nn.Linear(feature_dim, feature_dim), nn.ReLU(inplace=True), nn.Linear(feature_dim, dim))


LastNorm = Literal["none", "affine", "scale", "plain"]
"""Batch norm behind the last layer: none, with scale and shift, with a scale alone (SimCLR), or without them."""


def mlp(sizes: Sequence[int], *, hidden_bias: bool, last_bias: bool, last_norm: LastNorm = "none") -> nn.Sequential:
    """Return Linear - BatchNorm - ReLU for each hidden layer, then Linear: the head of most methods since SimCLR.

    `sizes` are the widths from the input on: (2048, 4096, 256) has one hidden layer. Weights by torch's default.
    """
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes[:-1]):
        layers += [nn.Linear(into, out, bias=hidden_bias), nn.BatchNorm1d(out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(sizes[-2], sizes[-1], bias=last_bias))
    if last_norm != "none":
        norm = nn.BatchNorm1d(sizes[-1], affine=last_norm != "plain")
        if last_norm == "scale":
            norm.bias.requires_grad_(False)  # it starts as 0 and stays so
        layers.append(norm)
    return nn.Sequential(*layers)


def linear_head(feature_dim: int, classes: int) -> nn.Linear:
    """Return a linear classifier with weights from N(0, 0.01) and zero bias.

    Source: https://github.com/facebookresearch/moco/blob/4397a04ed63a95c4a157f017a71883944003b615/main_lincls.py
    """
    head = nn.Linear(feature_dim, classes)
    nn.init.normal_(head.weight, mean=0.0, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def embed(backbone: nn.Module, head: nn.Module, images_NCHW: Tensor) -> Tensor:
    """Return the embeddings [N, D] of images, each row of unit length."""
    return functional.normalize(head(backbone(images_NCHW)), dim=1)
