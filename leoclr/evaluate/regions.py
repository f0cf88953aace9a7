"""The second stage of Faster R-CNN in its C4 form: regions of layer3's map go through layer4 and are classified.

Source: facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833, detectron2/modeling/roi_heads/
{roi_heads,fast_rcnn}.py, and `Res5ROIHeadsExtraNorm` of facebookresearch/moco, detection/train_net.py.
R regions of a batch, P proposals of an image, F feature values, C classes without background, G objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

from leoclr.evaluate import boxes
from leoclr.evaluate.detector_settings import DetectorSettings, Target
from leoclr.evaluate.proposals import Sizes

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of a region's offsets; detectron2/config/defaults.py, ROI_BOX_HEAD.BBOX_REG_WEIGHTS."""


class RegionHeads(nn.Module):
    """Classify proposals and move their edges. `forward`: losses, `detect`: detections."""

    def __init__(
        self, layer4: nn.Module, features: int, classes: int, *, stride: int, settings: DetectorSettings
    ) -> None:
        """Draw new weights from torch's global generator; `stride` is pixels per cell of the map that is cut."""
        super().__init__()
        self.layer4 = layer4
        self.norm = nn.BatchNorm2d(features)  # MoCo's: one more batch norm after the last block
        self.scores = nn.Linear(features, classes + 1)  # the first is background; detectron2: the last
        self.offsets = nn.Linear(features, 4 * classes)  # CLS_AGNOSTIC_BBOX_REG False; torchvision: background's too
        # fast_rcnn.py, FastRCNNOutputLayers; torchvision keeps the default of linear layers
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.offsets.weight, std=0.001)
        nn.init.zeros_(self.scores.bias)
        nn.init.zeros_(self.offsets.bias)
        self._stride, self._settings = stride, settings

    def forward(self, map_NCHW: Tensor, proposals: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the two losses, scalars to add, of proposals [P, 4] of each image; some of them are sampled."""
        drawn = [self._draw(found_P4, target) for found_P4, target in zip(proposals, targets, strict=True)]
        regions_R4, objects_R4 = torch.cat([each[0] for each in drawn]), torch.cat([each[1] for each in drawn])
        labels_R = torch.cat([each[2] for each in drawn])
        scores_RC, offsets_RC4 = self._classify(map_NCHW, [each[0] for each in drawn])
        right = torch.nonzero(labels_R > 0).squeeze(1)
        wanted = boxes.encode(regions_R4[right], objects_R4[right], WEIGHTS)
        # ROI_BOX_HEAD.SMOOTH_L1_BETA 0.0, plain L1 (torchvision: smooth L1 with beta 1/9), by all regions, not by
        # those with an object: fast_rcnn.py, `box_reg_loss`, says why.
        error = (offsets_RC4[right, labels_R[right] - 1] - wanted).abs().sum()
        return {
            "loss_cls": functional.cross_entropy(scores_RC, labels_R),
            "loss_box_reg": error / max(len(labels_R), 1),
        }

    def detect(self, map_NCHW: Tensor, proposals: Sequence[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Return "boxes", "labels" and "scores" of each image, by falling score."""
        scores_RC, offsets_RC4 = self._classify(map_NCHW, proposals)
        moved_RC4 = boxes.decode(offsets_RC4, torch.cat(list(proposals)), WEIGHTS)
        counts = [len(found_P4) for found_P4 in proposals]
        rows = zip(scores_RC.softmax(dim=1).split(counts), moved_RC4.split(counts), sizes, strict=True)
        return [self._select(scores_PC, moved_PC4, size) for scores_PC, moved_PC4, size in rows]

    def _draw(self, found_P4: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Return sampled regions [R, 4] of an image, the objects [R, 4] that they are at, and their labels [R].

        Source: roi_heads.py, `label_and_sample_proposals`.
        """
        regions_P4 = torch.cat([found_P4, target["boxes"]])  # ROI_HEADS.PROPOSAL_APPEND_GT True
        # ROI_HEADS.IOU_THRESHOLDS [0.5], allow_low_quality_matches=False
        object_P, kind_P = boxes.match(boxes.overlaps(target["boxes"], regions_P4), low=0.5, high=0.5, best=False)
        share = self._settings.regions_positive
        positive, negative = boxes.sample(kind_P, self._settings.regions, positive=share)
        drawn = torch.cat([positive, negative])
        # Background has no object: its own box stands in, and no loss reads it.
        objects_R4 = torch.cat([target["boxes"][object_P[positive]], regions_P4[negative]])
        labels_R = torch.cat([target["labels"][object_P[positive]], torch.zeros_like(negative)])
        return regions_P4[drawn], objects_R4, labels_R

    def _classify(self, map_NCHW: Tensor, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits [R, C + 1] and offsets [R, C, 4] of all images' regions [P, 4], cut as ROIAlignV2 does."""
        side, scale = self._settings.pool, 1 / self._stride
        # ROI_BOX_HEAD.POOLER_TYPE ROIAlignV2 is aligned=True, POOLER_SAMPLING_RATIO 0 as many samples as there are
        # cells; torchvision's own detectors keep V1's half-pixel shift and take 2 x 2.
        cut_RCHW = roi_align(map_NCHW, list(regions), side, spatial_scale=scale, sampling_ratio=0, aligned=True)
        features_RF = self.norm(self.layer4(cut_RCHW)).mean(dim=(2, 3))
        return self.scores(features_RF), self.offsets(features_RF).unflatten(1, (-1, 4))

    def _select(self, scores_PC: Tensor, moved_PC4: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return one image's detections. Source: fast_rcnn.py, `fast_rcnn_inference_single_image`."""
        finite_P = moved_PC4.isfinite().all(dim=2).all(dim=1) & scores_PC.isfinite().all(dim=1)
        scores_PC, moved_PC4 = scores_PC[finite_P, 1:], boxes.clip(moved_PC4[finite_P], size)
        sure_PC = scores_PC > self._settings.score_min
        found_D4, scores_D, labels_D = moved_PC4[sure_PC], scores_PC[sure_PC], torch.nonzero(sure_PC)[:, 1] + 1
        # Empty boxes take part; torchvision first drops those with a side under 0.01.
        kept = batched_nms(found_D4, scores_D, labels_D, self._settings.nms)[: self._settings.detections]
        return {"boxes": found_D4[kept], "labels": labels_D[kept], "scores": scores_D[kept]}
