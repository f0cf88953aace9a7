"""What a detector is shown: sizes, boxes that stay on their objects, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
