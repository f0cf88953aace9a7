"""What Faster R-CNN does with boxes: anchors, offsets, matching to objects, sampling. No parameters are in here.

Written after facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833, detectron2/modeling; where
torchvision's detectors differ, the line says so. Boxes are x1, y1, x2, y2 in pixels of the image that the network sees.
G objects of an image, A anchors or proposals of an image, K anchors of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]

SCALE_LIMIT = math.log(1000.0 / 16)
"""Most that a predicted log-scale may be: a 16-pixel box becomes 1000 pixels; box_regression.py."""


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return boxes around (0, 0), [K, 4]: for each size, each ratio of height to width at the area size * size.

    Source: anchor_generator.py, `generate_cell_anchors`. Corners are not rounded; torchvision's are.

    >>> cell_anchors((32,), (1.0, 4.0)).tolist()
    [[-16.0, -16.0, 16.0, 16.0], [-8.0, -32.0, 8.0, 32.0]]
    """
    anchors = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(anchors)


def grid_anchors(cell_K4: Tensor, *, height: int, width: int, stride: int) -> Tensor:
    """Return the anchors of a map of `height` x `width` cells, [height * width * K, 4], row by row, K together.

    The first cell's anchors are centered on the corner of the image (ANCHOR_GENERATOR.OFFSET 0.0), and the stride is
    the network's. torchvision divides the side of the padded image by the map's instead: 1201 // 76 = 15, not 16.
    Source: anchor_generator.py, `_create_grid_offsets`, `_grid_anchors`.
    """
    y_H, x_W = (torch.arange(0, count * stride, stride, device=cell_K4.device) for count in (height, width))
    y_HW, x_HW = torch.meshgrid(y_H, x_W, indexing="ij")
    shifts_P4 = torch.stack([x_HW, y_HW, x_HW, y_HW], dim=-1).reshape(-1, 4).to(cell_K4.dtype)
    return (shifts_P4[:, None] + cell_K4).reshape(-1, 4)


def encode(from_A4: Tensor, to_A4: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return the offsets [A, 4] that turn each box of `from_A4` into its own of `to_A4`.

    Shifts of the center in units of the box's sides, then log-scales of the sides, each times its weight.
    Source: Girshick et al. 2014, arXiv:1311.2524, appendix C, eq. (6)-(9); box_regression.py, `get_deltas`.
    """
    x, y, width, height = _centers(from_A4)
    to_x, to_y, to_width, to_height = _centers(to_A4)
    wx, wy, ww, wh = weights
    parts = wx * (to_x - x) / width, wy * (to_y - y) / height
    return torch.stack([*parts, ww * (to_width / width).log(), wh * (to_height / height).log()], dim=1)


def decode(offsets_AC4: Tensor, boxes_A4: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return the boxes [A, C, 4] that C offsets of each box lead to; log-scales are cut at `SCALE_LIMIT`.

    Source: Girshick et al. 2014, arXiv:1311.2524, appendix C, eq. (1)-(4); box_regression.py, `apply_deltas`.
    """
    x, y, width, height = (values_A[:, None] for values_A in _centers(boxes_A4))
    right, down, wider, higher = (offsets_AC4 / offsets_AC4.new_tensor(weights)).unbind(-1)
    x, y = right * width + x, down * height + y
    half_width = wider.clamp(max=SCALE_LIMIT).exp() * width / 2
    half_height = higher.clamp(max=SCALE_LIMIT).exp() * height / 2
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)


def clip(boxes_A4: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] cut to an image of `size`, its height and width."""
    height, width = size
    return boxes_A4.clamp(min=0).minimum(boxes_A4.new_tensor([width, height, width, height]))


def filled(boxes_A4: Tensor) -> Tensor:
    """Return which boxes have an inside, bool [A]: detectron2/structures/boxes.py, `nonempty`."""
    return (boxes_A4[:, 2] > boxes_A4[:, 0]) & (boxes_A4[:, 3] > boxes_A4[:, 1])


def overlaps(a_G4: Tensor, b_A4: Tensor) -> Tensor:
    """Return the intersection over union of all pairs, [G, A]; 0 where two empty boxes would give 0 / 0.

    Source: detectron2/structures/boxes.py, `pairwise_iou`.
    """
    sides_GA2 = torch.min(a_G4[:, None, 2:], b_A4[:, 2:]) - torch.max(a_G4[:, None, :2], b_A4[:, :2])
    shared_GA = sides_GA2.clamp(min=0).prod(dim=2)
    areas_G, areas_A = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (a_G4, b_A4))
    union_GA = areas_G[:, None] + areas_A - shared_GA
    return torch.where(shared_GA > 0, shared_GA / union_GA, torch.zeros_like(shared_GA))


def match(overlap_GA: Tensor, *, low: float, high: float, best: bool) -> tuple[Tensor, Tensor]:
    """Return the object that each box overlaps most, int64 [A], and what it is, int64 [A]: 1, 0, or -1.

    1, the object's, from `high` on; 0, background, below `low`; -1, neither, between. With `best`, the boxes that
    overlap an object most, ties included, are 1 however little that is; the object that they are given stays the one
    that they overlap most. Without objects all are background. Source: matcher.py, `Matcher`.
    """
    if not len(overlap_GA):
        nothing_A = torch.zeros(overlap_GA.shape[1], dtype=torch.int64, device=overlap_GA.device)
        return nothing_A, nothing_A.clone()
    most_A, object_A = overlap_GA.max(dim=0)
    kind_A = (most_A >= high).long() - ((most_A >= low) & (most_A < high)).long()
    if best:
        kind_A[(overlap_GA == overlap_GA.max(dim=1, keepdim=True).values).any(dim=0)] = 1
    return object_A, kind_A


def sample(kind_A: Tensor, count: int, *, positive: float) -> tuple[Tensor, Tensor]:
    """Return the indices of at most `count` boxes drawn at random: of kind 1, up to the share `positive`, and of 0.

    What lacks of the one is not filled by the other beyond that share: `count` minus the drawn 1s are 0s, if there are.
    Draws from torch's global generator of the device. Source: sampling.py, `subsample_labels`.
    """
    positives, negatives = (torch.nonzero(kind_A == kind).squeeze(1) for kind in (1, 0))
    wanted = min(int(count * positive), len(positives))
    rest = min(count - wanted, len(negatives))
    drawn = torch.randperm(len(positives), device=kind_A.device)[:wanted]
    return positives[drawn], negatives[torch.randperm(len(negatives), device=kind_A.device)[:rest]]


def _centers(boxes_A4: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return center x and y, width and height, each [A]."""
    width_A, height_A = (boxes_A4[:, 2:] - boxes_A4[:, :2]).unbind(1)
    return boxes_A4[:, 0] + width_A / 2, boxes_A4[:, 1] + height_A / 2, width_A, height_A
