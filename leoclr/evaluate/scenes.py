"""Scenes for a detector: resized, mirrored and normalized images with their boxes.

Resizing follows detectron2's ResizeShortestEdge: a shorter side, unless the longer one would pass its limit. Images of
a batch may differ in size; detectron2 batches images of like shape together, this does not.
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
    scale: tuple[float, float, float, float]  # shown pixels per pixel of the scene, for x1, y1, x2, y2
    mirrored: bool


def show(data: DataSet, split: str, index: int, *, view: SceneView, device: torch.device) -> Shown:
    """Return scene `index` of `split` on `device`. Raises: DataError naming the file when it cannot be decoded."""
    pixels_HWC = torch.from_numpy(data.splits[split].images.read(index)).to(device)
    height, width = pixels_HWC.shape[:2]
    image_CHW = pixels_HWC.permute(2, 0, 1).float() / 255
    new_height, new_width = shown_size(height, width, view)
    if (new_height, new_width) != (height, width):
        size = (new_height, new_width)
        image_CHW = functional.interpolate(image_CHW[None], size, mode="bilinear", antialias=True)[0]
    if view.mirror:
        image_CHW = image_CHW.flip(-1)
    mean, std = (torch.tensor(channels, device=device).view(3, 1, 1) for channels in (data.mean, data.std))
    return Shown((image_CHW - mean) / std, (new_width / width, new_height / height) * 2, view.mirror)


def target(scene: Boxes, shown: Shown) -> dict[str, Tensor]:
    """Return the objects of `scene` in the pixels of `shown`: "boxes" float32 [objects, 4], "labels" int64 [objects].

    Difficult objects are among them: detectron2 trains on them, and only its score leaves them out.
    """
    device, width = shown.image.device, shown.image.shape[2]
    boxes_O4 = torch.from_numpy(scene.boxes).to(device) * torch.tensor(shown.scale, device=device)
    if shown.mirrored:
        left, top, right, bottom = boxes_O4.unbind(1)
        boxes_O4 = torch.stack([width - right, top, width - left, bottom], dim=1)
    return {"boxes": boxes_O4, "labels": torch.from_numpy(scene.labels).to(device)}


def predictions(found: dict[str, Tensor], shown: Shown) -> Predictions:
    """Return what a detector found in `shown`, which is not mirrored, in the pixels of the scene itself."""
    boxes_P4 = found["boxes"].cpu().numpy().astype(np.float32) / np.array(shown.scale, np.float32)
    return Predictions(boxes_P4.astype(np.float32), found["labels"].cpu().numpy(), found["scores"].cpu().numpy())


def shown_size(height: int, width: int, view: SceneView) -> tuple[int, int]:
    """Return height and width after resizing, pixels.

    Source: detectron2/data/transforms/augmentation_impl.py, `ResizeShortestEdge.get_output_shape`.

    >>> view = SceneView(side=800, max_side=1333)
    >>> shown_size(500, 375, view), shown_size(100, 400, view)
    ((1067, 800), (333, 1333))
    """
    scale = view.side / min(height, width)
    if max(height, width) * scale > view.max_side:
        scale = view.max_side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)
