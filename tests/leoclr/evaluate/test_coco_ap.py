"""COCO's scores against pycocotools on random detections with crowds, areas of masks, ties and empty scenes."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from leoclr.data.contract import Boxes
from leoclr.evaluate.coco_ap import coco_ap
from leoclr.evaluate.metrics import Predictions

CLASSES = 4
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # the first six of COCOeval


def sides(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = box.astype(np.float64).tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def reference(predictions: list[Predictions], scenes: list[Boxes]) -> dict[str, float]:
    objects = [
        {
            "image_id": image,
            "category_id": int(scene.labels[i]),
            "bbox": sides(scene.boxes[i]),
            "iscrowd": int(scene.crowd[i]) if len(scene.crowd) else 0,
            "area": float(scene.area[i]) if len(scene.area) else sides(scene.boxes[i])[2] * sides(scene.boxes[i])[3],
        }
        for image, scene in enumerate(scenes)
        for i in range(len(scene.labels))
    ]
    found = [
        {
            "image_id": image,
            "category_id": int(p.labels[i]),
            "bbox": sides(p.boxes[i]),
            "score": float(p.scores[i]),
        }
        for image, p in enumerate(predictions)
        for i in range(len(p.labels))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(scenes))],
            "categories": [{"id": label} for label in range(1, CLASSES + 1)],
            "annotations": [{**each, "id": index + 1} for index, each in enumerate(objects)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: 100 * value for name, value in zip(STATS, evaluation.stats, strict=False) if value > -1}


def draw(seed: int, *, crowds: bool, far: float) -> tuple[list[Predictions], list[Boxes]]:
    rng = np.random.default_rng(seed)
    scenes, predictions = [], []
    for _ in range(12):
        count = int(rng.integers(0, 7))
        corners, lengths = rng.random((count, 2)) * 150, rng.choice([10.0, 40.0, 130.0], (count, 2))
        boxes = np.concatenate([corners, corners + lengths * (1 + rng.random((count, 2)))], 1).astype(np.float32)
        crowd = (rng.random(count) < 0.25) if crowds else np.empty(0, bool)
        area = (np.prod(boxes[:, 2:] - boxes[:, :2], 1) * rng.random(count)).astype(np.float32) if crowds else None
        labels = rng.integers(1, CLASSES, count)  # the last class has no object
        flags = np.zeros(count, bool)
        scenes.append(Boxes(boxes, labels, flags, crowd, np.empty(0, np.float32) if area is None else area))
        which = rng.integers(0, count, 4 * count) if count else np.empty(0, np.int64)
        near = boxes[which] + (rng.normal(0, far, (len(which), 4)) * rng.random((len(which), 1))).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        guesses = np.where(rng.random(len(which)) < 0.8, labels[which] if count else 0, rng.integers(1, CLASSES + 1))
        scores = rng.integers(1, 12, len(which)).astype(np.float32) / 12  # many ties
        predictions.append(Predictions(near.reshape(-1, 4), guesses.astype(np.int64), scores))
    return predictions, scenes


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("far", [0.0, 3.0, 9.0])
def test_scores_are_those_of_pycocotools(crowds: bool, far: float) -> None:
    for seed in range(4):
        predictions, scenes = draw(seed, crowds=crowds, far=far)
        expected = reference(predictions, scenes)
        assert 5 < expected["ap"] < 95
        assert coco_ap(predictions, scenes, num_classes=CLASSES) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("first", [0, 1])
def test_of_objects_that_overlap_alike_the_last_is_taken(first: int) -> None:
    pair = np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)
    scene = Boxes(pair, np.ones(2, np.int64), np.zeros(2, bool))
    between = np.array([[2, 0, 12, 10], pair[first]], np.float32)
    found = Predictions(between, np.ones(2, np.int64), np.array([0.9, 0.8], np.float32))
    scores = coco_ap([found], [scene], num_classes=1)
    assert scores["ap50"] == pytest.approx(reference([found], [scene])["ap50"])
    assert (scores["ap50"] > 99) == (first == 0)  # the second prediction finds its object free


def test_a_hundred_predictions_of_a_class_count() -> None:
    box = np.array([[10, 10, 60, 60]], np.float32)
    scene = Boxes(box, np.ones(1, np.int64), np.zeros(1, bool))
    wrong = np.tile(np.array([[200, 200, 260, 260]], np.float32), (100, 1))
    labels, scores = np.ones(101, np.int64), np.append(np.full(100, 0.9), 0.1).astype(np.float32)
    predictions = [Predictions(np.concatenate([wrong, box]), labels, scores)]
    assert coco_ap(predictions, [scene], num_classes=1)["ap"] == 0.0
    assert reference(predictions, [scene])["ap"] == 0.0
    predictions = [Predictions(np.concatenate([wrong[1:], box]), labels[1:], scores[1:])]
    assert coco_ap(predictions, [scene], num_classes=1)["ap"] == pytest.approx(reference(predictions, [scene])["ap"])


def test_a_range_without_objects_has_no_score() -> None:
    box = np.array([[10, 10, 60, 60]], np.float32)
    scene = Boxes(box, np.ones(1, np.int64), np.zeros(1, bool))
    same = Predictions(box, np.ones(1, np.int64), np.ones(1, np.float32))
    scores = coco_ap([same], [scene], num_classes=3)
    assert scores == pytest.approx({"ap": 100.0, "ap50": 100.0, "ap75": 100.0, "ap_medium": 100.0})


def test_nothing_to_find_is_an_error() -> None:
    nothing = Boxes(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, bool))
    none = Predictions(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
    with pytest.raises(ValueError, match="no scene has an object"):
        coco_ap([none], [nothing], num_classes=2)
    with pytest.raises(ValueError, match="1 predictions for 2 scenes"):
        coco_ap([none], [nothing] * 2, num_classes=2)
