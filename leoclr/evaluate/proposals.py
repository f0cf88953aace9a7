"""The region proposal network of Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) on one map, as detectron2 has it.

Source: facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833,
detectron2/modeling/proposal_generator/{rpn,proposal_utils}.py. The head is torchvision's, which is the same network
with the same initial weights (all weights normal with standard deviation .01, biases 0).
N images, A anchors of an image, P proposals of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import nms

from leoclr.evaluate import boxes
from leoclr.evaluate.detector_settings import DetectorSettings, Target

Sizes = Sequence[tuple[int, int]]
"""Height and width of each image of a batch, before padding."""


class ProposalNetwork(nn.Module):
    """Say where objects may be. `forward`: boxes, and losses where targets are given."""

    cell_K4: Tensor

    def __init__(self, channels: int, stride: int, *, settings: DetectorSettings) -> None:
        """Draw new weights from torch's global generator; `stride` is pixels per cell of the map."""
        super().__init__()
        cell_K4 = boxes.cell_anchors(settings.anchor_sizes, settings.anchor_ratios)
        self.head = RPNHead(channels, len(cell_K4))
        self.register_buffer("cell_K4", cell_K4, persistent=False)
        self._stride, self._settings = stride, settings

    def forward(
        self, map_NCHW: Tensor, sizes: Sizes, targets: Sequence[Target] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return each image's proposals [P, 4] by falling score, without gradient, and the losses, scalars to add."""
        (logits_NKHW,), (offsets_NZHW,) = self.head([map_NCHW])
        logits_NA = logits_NKHW.permute(0, 2, 3, 1).flatten(1)
        offsets_NA4 = offsets_NZHW.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        height, width = map_NCHW.shape[-2:]
        anchors_A4 = boxes.grid_anchors(self.cell_K4, height=height, width=width, stride=self._stride)
        losses = {} if targets is None else self._losses(anchors_A4, logits_NA, offsets_NA4, targets)
        with torch.no_grad():
            rows = zip(logits_NA, offsets_NA4, sizes, strict=True)
            found = [self._propose(anchors_A4, logits_A, offsets_A4, size) for logits_A, offsets_A4, size in rows]
        return found, losses

    def _losses(
        self, anchors_A4: Tensor, logits_NA: Tensor, offsets_NA4: Tensor, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        labels_NA = torch.full_like(logits_NA, -1.0)
        errors = []
        for labels_A, offsets_A4, target in zip(labels_NA, offsets_NA4, targets, strict=True):
            overlap_GA = boxes.overlaps(target["boxes"], anchors_A4)
            # RPN.IOU_THRESHOLDS [0.3, 0.7], allow_low_quality_matches=True; anchors outside the image stay
            # (RPN.BOUNDARY_THRESH -1).
            object_A, kind_A = boxes.match(overlap_GA, low=0.3, high=0.7, best=True)
            # RPN.POSITIVE_FRACTION 0.5
            positive, negative = boxes.sample(kind_A, self._settings.anchors, positive=0.5)
            labels_A[positive], labels_A[negative] = 1.0, 0.0
            # Without objects there are no positives and nothing is taken from the empty boxes.
            wanted = boxes.encode(anchors_A4[positive], target["boxes"][object_A[positive]])
            # RPN.SMOOTH_L1_BETA 0.0, plain L1; torchvision: smooth L1 with beta 1/9.
            errors.append((offsets_A4[positive] - wanted).abs().sum())
        drawn_NA = labels_NA >= 0
        surprise = functional.binary_cross_entropy_with_logits(
            logits_NA[drawn_NA], labels_NA[drawn_NA], reduction="sum"
        )
        # By the anchors that were to be drawn; torchvision: by those that could be.
        count = self._settings.anchors * len(targets)
        return {"loss_rpn_cls": surprise / count, "loss_rpn_loc": torch.stack(errors).sum() / count}

    def _propose(self, anchors_A4: Tensor, logits_A: Tensor, offsets_A4: Tensor, size: tuple[int, int]) -> Tensor:
        """Return one image's proposals [P, 4]. Source: proposal_utils.py, `find_top_rpn_proposals`."""
        settings, test = self._settings, int(not self.training)
        logits_P, top_P = logits_A.topk(min(settings.proposals_before_nms[test], len(logits_A)))
        found_P4 = boxes.decode(offsets_A4[top_P, None], anchors_A4[top_P])[:, 0]
        # detectron2 ends a training here when a box is not finite; the loss, which then is not either, ends ours.
        keep_P = found_P4.isfinite().all(dim=1) & logits_P.isfinite()
        found_P4 = boxes.clip(found_P4, size)
        keep_P &= boxes.filled(found_P4)  # PROPOSAL_GENERATOR.MIN_SIZE 0; torchvision: sides of at least 0.001
        found_P4, logits_P = found_P4[keep_P], logits_P[keep_P]
        # By logit; torchvision sorts by sigmoid, in which high logits are equal.
        kept = nms(found_P4, logits_P, settings.proposal_nms)
        return found_P4[kept[: settings.proposals[test]]]
