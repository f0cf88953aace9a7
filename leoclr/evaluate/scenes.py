"""Scenes for a detector: resized, mirrored and normalized images with their boxes.

As facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833 ("d2"): resize, mirror, and what is taken of
the objects. Normalization is the data set's: for photographs ImageNet's, which is MoCo's PIXEL_MEAN and PIXEL_STD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from leoclr.data.contract import Boxes, DataSet
from leoclr.evaluate.metrics import Predictions


@dataclass(frozen=True, slots=True)
class SceneView:
    """How one scene is shown: chosen at random in training, fixed in test."""

    side: int  # shorter side, pixels
    max_side: int  # longer side at most, pixels
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A scene as the network sees it."""

    image: Tensor  # float32 [C, H, W], normalized
    size: tuple[int, int]  # height and width of the scene itself, pixels
    mirrored: bool


def show(data: DataSet, split: str, index: int, *, view: SceneView, device: torch.device) -> Shown:
    """Return scene `index` of `split` on `device`. Raises: DataError naming the file when it cannot be decoded."""
    pixels_HWC = torch.from_numpy(data.splits[split].images.read(index)).to(device)
    height, width = pixels_HWC.shape[:2]
    image_CHW = pixels_HWC.permute(2, 0, 1).float()
    new_height, new_width = shown_size(height, width, view)
    # d2 resizes with Pillow: along rows, then along columns, rounded to whole numbers after each. This is the same on
    # any device, but for 1 of 255 in about one value of 500, where float32 and Pillow's integers round a half apart.
    for size in ((height, new_width), (new_height, new_width)):
        if size != image_CHW.shape[1:]:
            image_CHW = (
                functional.interpolate(image_CHW[None], size, mode="bilinear", antialias=True)[0].add(0.5).floor()
            )
    if view.mirror:
        image_CHW = image_CHW.flip(-1)
    mean, std = (torch.tensor(channels, device=device).view(3, 1, 1) for channels in (data.mean, data.std))
    return Shown((image_CHW / 255 - mean) / std, (height, width), view.mirror)


def target(scene: Boxes, shown: Shown) -> dict[str, Tensor]:
    """Return the objects of `scene` in the pixels of `shown`: "boxes" float32 [objects, 4], "labels" int64 [objects].

    Difficult objects are among them: d2 trains on them, and only its score leaves them out. Crowds are not, nor what
    has no inside. Source: d2, detectron2/data/{dataset_mapper,detection_utils}.py.
    """
    (height, width), (new_height, new_width) = shown.size, shown.image.shape[1:]
    boxes_O4 = scene.boxes.astype(np.float64) * np.array([new_width / width, new_height / height] * 2)
    if shown.mirrored:
        boxes_O4 = np.stack([new_width - boxes_O4[:, 2], boxes_O4[:, 1], new_width - boxes_O4[:, 0], boxes_O4[:, 3]], 1)
    boxes_O4 = np.clip(boxes_O4, 0, [new_width, new_height] * 2)
    taken = ((boxes_O4[:, 2:] - boxes_O4[:, :2]) > 1e-5).all(axis=1)  # filter_empty_instances, box_threshold
    if len(scene.crowd):
        taken &= ~scene.crowd
    device = shown.image.device
    return {
        "boxes": torch.from_numpy(boxes_O4[taken].astype(np.float32)).to(device),
        "labels": torch.from_numpy(scene.labels[taken]).to(device),
    }


def predictions(found: dict[str, Tensor], shown: Shown) -> Predictions:
    """Return what a detector found in `shown`, which is not mirrored, in the pixels of the scene itself.

    Source: d2, detectron2/modeling/postprocessing.py.
    """
    (height, width), (new_height, new_width) = shown.size, shown.image.shape[1:]
    boxes_P4 = found["boxes"].cpu().numpy() * np.array([width / new_width, height / new_height] * 2, np.float32)
    boxes_P4 = np.clip(boxes_P4, 0, np.array([width, height] * 2, np.float32))
    kept = (boxes_P4[:, 2:] > boxes_P4[:, :2]).all(axis=1)
    labels, scores = found["labels"].cpu().numpy(), found["scores"].cpu().numpy()
    return Predictions(boxes_P4[kept], labels[kept], scores[kept])


def shown_size(height: int, width: int, view: SceneView) -> tuple[int, int]:
    """Return height and width after resizing, pixels: a shorter side, unless the longer one would pass its limit.

    Source: d2, detectron2/data/transforms/augmentation_impl.py, `ResizeShortestEdge.get_output_shape`, step by step.

    >>> view = SceneView(side=800, max_side=1333)
    >>> shown_size(500, 375, view), shown_size(100, 400, view)
    ((1067, 800), (333, 1333))
    """
    side = float(view.side)
    scale = side / min(height, width)
    new_height, new_width = (side, scale * width) if height < width else (scale * height, side)
    longer = max(new_height, new_width)
    if longer > view.max_side:
        new_height, new_width = (edge * (view.max_side / longer) for edge in (new_height, new_width))
    return int(new_height + 0.5), int(new_width + 0.5)
