"""What a detector is shown: sizes, boxes that stay on their objects, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from leoclr.data.contract import Boxes, DataSet, Split, Stack
from leoclr.evaluate.scenes import SceneView, predictions, show, shown_size, target

CPU = torch.device("cpu")


@pytest.fixture
def data() -> DataSet:
    """One black scene of 20 x 30 pixels with a white object at x 4..10, y 2..12."""
    image = np.zeros((1, 20, 30, 3), np.uint8)
    image[0, 2:12, 4:10] = 255
    scene = Boxes(np.array([[4, 2, 10, 12]], np.float32), np.array([3]), np.array([True]))
    split = Split(Stack(image), np.empty(0, np.int64), [scene])
    return DataSet("one", ("a", "b", "c"), {"train": split, "test": split}, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("side", [20, 40])
def test_the_box_stays_on_the_ink(data: DataSet, side: int, mirror: bool) -> None:
    shown = show(data, "train", 0, view=SceneView(side=side, max_side=1000, mirror=mirror), device=CPU)
    assert shown.image.shape == (3, side, side * 3 // 2)
    seen = target(data.splits["train"].scenes[0], shown)
    assert seen["labels"].tolist() == [3]
    rows, columns = torch.nonzero(shown.image[0] > 0.5, as_tuple=True)
    ink = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert seen["boxes"][0].tolist() == [float(edge) for edge in ink]


def test_predictions_come_back_in_the_pixels_of_the_scene(data: DataSet) -> None:
    shown = show(data, "test", 0, view=SceneView(side=50, max_side=60), device=CPU)
    assert shown.image.shape == (3, 40, 60)
    seen = target(data.splits["test"].scenes[0], shown)
    back = predictions(seen | {"scores": torch.ones(1)}, shown)
    np.testing.assert_allclose(back.boxes, data.splits["test"].scenes[0].boxes, rtol=1e-6)


def test_the_image_is_normalized_by_channel(data: DataSet) -> None:
    data = DataSet(data.name, data.classes, data.splits, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    shown = show(data, "test", 0, view=SceneView(side=20, max_side=30), device=CPU)
    assert shown.image[:, 5, 5].tolist() == [1.0, 3.0, 0.5]
    assert shown.image[:, 0, 0].tolist() == [-1.0, -1.0, 0.0]


def test_sizes_follow_the_shorter_side_up_to_the_limit() -> None:
    assert shown_size(500, 333, SceneView(side=480, max_side=1333)) == (721, 480)
    assert shown_size(300, 1000, SceneView(side=800, max_side=1333)) == (400, 1333)


def d2_size(height: int, width: int, side: int, limit: int) -> tuple[int, int]:
    """What detectron2 does in Python's numbers: scale, scale again where the longer side passes the limit, round."""
    scale = side * 1.0 / min(height, width)
    new = (side * 1.0, scale * width) if height < width else (scale * height, side * 1.0)
    if max(new) > limit:
        scale = limit * 1.0 / max(new)
        new = (new[0] * scale, new[1] * scale)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def test_sizes_round_as_detectron2s() -> None:
    sizes = [(height, width) for height in range(100, 500, 13) for width in range(100, 900, 17)]
    for side in (480, 800):
        ours = [shown_size(height, width, SceneView(side=side, max_side=1333)) for height, width in sizes]
        assert ours == [d2_size(height, width, side, 1333) for height, width in sizes]


@pytest.mark.parametrize(("height", "width", "side"), [(375, 500, 800), (333, 500, 480), (60, 80, 31)])
def test_images_are_resized_as_pillow_does(height: int, width: int, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    split = Split(Stack(pixels), np.empty(0, np.int64), [])
    data = DataSet("one", (), {"test": split}, (0.0,) * 3, (1.0,) * 3)
    shown = show(data, "test", 0, view=SceneView(side=side, max_side=2000), device=CPU)
    size = shown.image.shape[2], shown.image.shape[1]
    expected = np.asarray(Image.fromarray(pixels[0]).resize(size, Image.Resampling.BILINEAR))
    levels = shown.image.mul(255).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)  # whole levels
    assert np.abs(levels - expected).max() < 1.01
    assert np.mean(np.abs(levels - expected) > 0.5) < 0.01


def test_crowds_and_empty_boxes_are_no_targets_and_boxes_end_at_the_edge(data: DataSet) -> None:
    boxes = np.array([[4, 2, 10, 12], [1, 1, 9, 9], [5, 5, 5, 9], [-3, -2, 40, 25]], np.float32)
    crowd = np.array([False, True, False, False])
    scene = Boxes(boxes, np.array([3, 2, 1, 2]), np.zeros(4, bool), crowd)
    shown = show(data, "train", 0, view=SceneView(side=20, max_side=30), device=CPU)
    seen = target(scene, shown)
    assert seen["labels"].tolist() == [3, 2]
    assert seen["boxes"].tolist() == [[4, 2, 10, 12], [0, 0, 30, 20]]
    assert seen["boxes"].dtype == torch.float32


def test_predictions_end_at_the_edge_of_the_scene_and_empty_ones_are_left_out(data: DataSet) -> None:
    shown = show(data, "test", 0, view=SceneView(side=40, max_side=60), device=CPU)
    found = torch.tensor([[2.0, 2.0, 61.0, 41.0], [3.0, 3.0, 3.0, 9.0]])
    back = predictions({"boxes": found, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.5, 0.4])}, shown)
    assert back.boxes.tolist() == [[1, 1, 30, 20]]
    assert (back.labels.tolist(), back.scores.tolist()) == ([1], [0.5])
