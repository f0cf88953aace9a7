"""ResNets without their classifier, of any width and with a stem for the size of the images.

N images, F feature values, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

Stem = Literal["imagenet", "cifar", "stride2"]
"""imagenet: 7x7 stride 2 and max-pool (224 px); cifar: 3x3 stride 1 (32 px); stride2: 3x3 stride 2 (28..96 px)."""

BACKBONES: dict[str, tuple[Literal["basic", "bottleneck"], tuple[int, int, int, int]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),  # block and blocks per stage: He et al. 2015, arXiv:1512.03385, table 1
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}

_STEM_REDUCTION: dict[Stem, int] = {"imagenet": 4, "cifar": 1, "stride2": 2}
_NARROW = 8  # channels: fewer than a vector of AVX2 holds


def build(name: str, *, width: int = 64, stem: Stem = "imagenet", zero_init_residual: bool = False) -> Backbone:
    """Return a new backbone, drawn from torch's global generator; `width` is the channels of its first stage.

    With `zero_init_residual` each block starts as its shortcut: the scale of its last batch norm is 0 instead of 1.
    Source: Goyal et al. 2017, arXiv:1706.02677, section 5.1.

    Raises: ValueError for a name or stem that does not exist, or a width below 1.
    """
    if name not in BACKBONES:
        raise ValueError(f"no backbone is called {name!r}; there are {', '.join(BACKBONES)}")
    if stem not in _STEM_REDUCTION:
        raise ValueError(f"no stem is called {stem!r}; there are {', '.join(_STEM_REDUCTION)}")
    if width < 1:
        raise ValueError(f"width: at least one channel, not {width}")
    backbone = Backbone(name, width=width, stem=stem)
    if zero_init_residual:
        last = {"basic": "bn2", "bottleneck": "bn3"}[BACKBONES[name][0]]
        for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
            for block in stage:
                nn.init.zeros_(getattr(block, last).weight)
    return backbone


class Backbone(nn.Module):
    """A ResNet up to its pooled features, with torchvision's names: weights of the one load into the other.

    With width 64 and the imagenet stem it is torchvision's network without `fc`.
    """

    feature_dim: int  # F
    layer_channels: tuple[int, ...]  # channels that layer1..layer4 put out
    reduction: int  # pixels of the image per cell of layer3's output, along a side

    def __init__(self, name: str, *, width: int, stem: Stem) -> None:
        """Make `name` of BACKBONES; see `build`, which checks its arguments."""
        super().__init__()
        kind, depths = BACKBONES[name]
        block = _block(kind)
        planes = [width, 2 * width, 4 * width, 8 * width]
        self.layer_channels = tuple(block.expansion * each for each in planes)
        self.feature_dim = self.layer_channels[-1]
        self.reduction = _STEM_REDUCTION[stem] * 4  # layer2 and layer3 halve the side

        self.conv1 = _stem_convolution(stem, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.layer1 = _stage(block, width, planes[0], depth=depths[0], stride=1)
        self.layer2 = _stage(block, self.layer_channels[0], planes[1], depth=depths[1], stride=2)
        self.layer3 = _stage(block, self.layer_channels[1], planes[2], depth=depths[2], stride=2)
        self.layer4 = _stage(block, self.layer_channels[2], planes[3], depth=depths[3], stride=2)
        self.apply(_initialize)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return features [N, F]: the mean of layer4's output over its cells."""
        maps_NCHW = self.maxpool(self.relu(self.bn1(self.conv1(images_NCHW))))
        maps_NCHW = self.layer4(self.layer3(self.layer2(self.layer1(maps_NCHW))))
        features_NF: Tensor = maps_NCHW.mean(dim=(2, 3))
        return features_NF

    def stages(self) -> dict[str, nn.Module]:
        """Return stem, layer1 .. layer4 in order, to be taken apart; they share this backbone's parameters."""
        return {
            "stem": nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool),
            "layer1": self.layer1,
            "layer2": self.layer2,
            "layer3": self.layer3,
            "layer4": self.layer4,
        }


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution that leaves out pixels itself: the same sums as with a stride.

    The gradient of one with a stride, of fewer than 8 channels and channels_last, writes past its memory on a processor
    with AVX2 and no more: oneDNN issue 6035, of oneDNN 3.13 in torch 2.15, ends in "free(): invalid pointer" or wrong.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as the base class names it
        """Return the maps [N, C, H, W] of every stride-th pixel."""
        down, across = self.stride
        return functional.conv2d(input[:, :, ::down, ::across], self.weight, self.bias)


def _block(kind: Literal["basic", "bottleneck"]) -> type[BasicBlock] | type[Bottleneck]:
    # Imported when a network is made: torchvision loads torch's compiler, 3 s, and a plan only asks for names.
    from torchvision.models.resnet import BasicBlock, Bottleneck

    block: type[BasicBlock] | type[Bottleneck] = BasicBlock if kind == "basic" else Bottleneck
    return block


def _stem_convolution(stem: Stem, width: int) -> nn.Conv2d:
    if stem == "imagenet":
        return nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    return nn.Conv2d(3, width, 3, stride=_STEM_REDUCTION[stem], padding=1, bias=False)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, *, depth: int, stride: int
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        convolution = _Pointwise if channels < _NARROW else nn.Conv2d
        shortcut = nn.Sequential(convolution(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    return nn.Sequential(block(channels, planes, stride, shortcut), *(block(out, planes) for _ in range(1, depth)))


def _initialize(module: nn.Module) -> None:
    # torchvision/models/resnet.py: He's normal for convolutions; batch norm starts as the identity by default.
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
