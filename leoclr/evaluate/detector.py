"""Faster R-CNN on a pre-trained backbone (R50-C4): regions are cut from layer3's map and go through layer4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leoclr.backbones import Backbone
from leoclr.evaluate.detector_settings import DetectorSettings, Target
from leoclr.evaluate.proposals import ProposalNetwork, Sizes
from leoclr.evaluate.regions import RegionHeads


class Detector(nn.Module):
    """Faster R-CNN; it takes the backbone apart and trains its own parameters. `forward`: losses, `detect`: boxes.

    torchvision's ResNet has the stride of a bottleneck in its 3x3 convolution, which is MoCo's STRIDE_IN_1X1 False.
    """

    def __init__(self, backbone: Backbone, classes: int, *, settings: DetectorSettings) -> None:
        """Draw new weights from torch's global generator; `classes` counts without background."""
        super().__init__()
        stages = backbone.stages()
        last = stages.pop("layer4")
        self.trunk = nn.Sequential(*stages.values())
        stride = backbone.reduction
        self.proposals = ProposalNetwork(backbone.layer_channels[2], stride, settings=settings)
        self.regions = RegionHeads(last, backbone.feature_dim, classes, stride=stride, settings=settings)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the four losses, scalars to add, of normalized images [C, H, W]; sizes may differ.

        Each has weight 1 (LOSS_WEIGHT and BBOX_REG_LOSS_WEIGHT of RPN, BBOX_REG_LOSS_WEIGHT of ROI_BOX_HEAD). Anchors
        and regions are sampled with torch's global generator of the device.
        """
        map_NCHW, sizes = self._map(images)
        proposals, losses = self.proposals(map_NCHW, sizes, targets)
        return {**losses, **self.regions(map_NCHW, proposals, targets)}

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return "boxes", "labels" and "scores" of each image, by falling score; in evaluation mode only."""
        map_NCHW, sizes = self._map(images)
        proposals, _ = self.proposals(map_NCHW, sizes, None)
        return self.regions.detect(map_NCHW, proposals, sizes)

    def _map(self, images: Sequence[Tensor]) -> tuple[Tensor, Sizes]:
        """Return layer3's map of the images, padded to one size with zeros on the right and at the bottom.

        Zeros come after normalization, and the size is the largest of the batch: detectron2/structures/image_list.py,
        `from_tensors`, with a size_divisibility of 0, the C4 trunk's.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        batch_NCHW = images[0].new_zeros(len(images), images[0].shape[0], height, width)
        for row, image_CHW in zip(batch_NCHW, images, strict=True):
            row[:, : image_CHW.shape[1], : image_CHW.shape[2]] = image_CHW
        map_NCHW: Tensor = self.trunk(batch_NCHW.contiguous(memory_format=torch.channels_last))
        return map_NCHW, sizes
