"""Faster R-CNN whose trunk is a pre-trained backbone (R50-C4): regions are cut from layer3's map and go through layer4.

Built from torchvision's parts with detectron2's numbers and initial weights. What stays torchvision's: the box losses
are smooth L1 with beta 1/9 (detectron2: L1).
R regions of a batch, F feature values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from leoclr.backbones import Backbone
from leoclr.evaluate.detector_settings import DetectorSettings, Target


class Detector(nn.Module):
    """Faster R-CNN; it takes the backbone apart and trains its own parameters. `forward`: losses, `detect`: boxes."""

    def __init__(self, backbone: Backbone, classes: int, *, settings: DetectorSettings) -> None:
        """Draw new weights from torch's global generator; `classes` counts without background."""
        super().__init__()
        stages = backbone.stages()
        last = stages.pop("layer4")
        self.trunk = nn.Sequential(*stages.values())
        self.proposals = _proposal_network(backbone.layer_channels[2], settings)
        self.regions = _region_heads(_RegionHead(last, backbone.feature_dim), classes, backbone, settings)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the four losses, scalars to add, of normalized images [C, H, W]; sizes may differ.

        Anchors and regions are sampled with torch's global generator of the device.
        """
        padded, features = self._features(images)
        boxes, proposal_losses = self.proposals(padded, features, list(targets))
        _, region_losses = self.regions(features, boxes, padded.image_sizes, list(targets))
        return {**proposal_losses, **region_losses}

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return "boxes", "labels" and "scores" of each image, by falling score; in evaluation mode only."""
        padded, features = self._features(images)
        boxes, _ = self.proposals(padded, features)
        found: list[dict[str, Tensor]] = self.regions(features, boxes, padded.image_sizes)[0]
        return found

    def _features(self, images: Sequence[Tensor]) -> tuple[ImageList, dict[str, Tensor]]:
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        batch_NCHW = images[0].new_zeros(len(images), images[0].shape[0], height, width)
        for row, image_CHW in zip(batch_NCHW, images, strict=True):
            row[:, : image_CHW.shape[1], : image_CHW.shape[2]] = image_CHW
        layer3 = self.trunk(batch_NCHW.contiguous(memory_format=torch.channels_last))
        return ImageList(batch_NCHW, sizes), {"layer3": layer3}


def _proposal_network(channels: int, settings: DetectorSettings) -> RegionProposalNetwork:
    anchors = AnchorGenerator((settings.anchor_sizes,), (settings.anchor_ratios,))
    return RegionProposalNetwork(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,  # detectron2/config/defaults.py, RPN.IOU_THRESHOLDS [0.3, 0.7]
        bg_iou_thresh=0.3,
        batch_size_per_image=settings.anchors,
        positive_fraction=0.5,  # defaults.py, RPN.POSITIVE_FRACTION
        pre_nms_top_n=dict(zip(("training", "testing"), settings.proposals_before_nms, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), settings.proposals, strict=True)),
        nms_thresh=settings.proposal_nms,
    )


def _region_heads(head: nn.Module, classes: int, backbone: Backbone, settings: DetectorSettings) -> RoIHeads:
    predictor = FastRCNNPredictor(backbone.feature_dim, classes + 1)
    # detectron2, FastRCNNOutputLayers: small first scores and offsets, instead of torch's default of linear layers
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)
    return RoIHeads(
        _RegionPool(settings.pool, 1 / backbone.reduction),
        head,
        predictor,
        fg_iou_thresh=0.5,  # defaults.py, ROI_HEADS.IOU_THRESHOLDS [0.5]
        bg_iou_thresh=0.5,
        batch_size_per_image=settings.regions,
        positive_fraction=settings.regions_positive,
        bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),  # defaults.py, ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        score_thresh=settings.score_min,
        nms_thresh=settings.nms,
        detections_per_img=settings.detections,
    )


class _RegionPool(nn.Module):
    """Cut regions from one map as detectron2's ROIAlignV2; torchvision's own module keeps V1's half-pixel shift."""

    def __init__(self, side: int, scale: float) -> None:
        super().__init__()
        self._side, self._scale = side, scale

    def forward(self, features: Mapping[str, Tensor], boxes: list[Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return [R, C, side, side]; `sizes` of the images are not needed."""
        side = (self._side, self._side)
        regions: Tensor = roi_align(
            features["layer3"], boxes, side, spatial_scale=self._scale, sampling_ratio=-1, aligned=True
        )
        return regions


class _RegionHead(nn.Module):
    """layer4, one more batch norm, mean over cells.

    Source: `Res5ROIHeadsExtraNorm`, facebookresearch/moco, detection/train_net.py.
    """

    def __init__(self, layer4: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer4 = layer4
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, regions_RCHW: Tensor) -> Tensor:
        """Return features [R, F]."""
        features_RF: Tensor = self.norm(self.layer4(regions_RCHW)).mean(dim=(2, 3))
        return features_RF
