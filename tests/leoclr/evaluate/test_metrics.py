"""Scores against naive, independent ones: loops over one image, one prediction, one object at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leoclr.data.contract import Boxes
from leoclr.evaluate.metrics import (
    VOC_THRESHOLDS,
    DetectionScores,
    Predictions,
    average_precision,
    detection_ap,
    mean_per_class,
    top_k,
)


def boxes_of(rows: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> Boxes:
    flags = [False] * len(labels) if difficult is None else difficult
    return Boxes(np.array(rows, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(flags, bool))


def found(rows: list[list[float]], labels: list[int], scores: list[float]) -> Predictions:
    return Predictions(
        np.array(rows, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32)
    )


def test_top_k_and_mean_per_class_equal_a_loop() -> None:
    scores_NC = torch.rand(200, 7, generator=torch.Generator().manual_seed(0))
    labels_N = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(1))  # classes 5 and 6 are absent
    rows = list(zip(scores_NC.tolist(), labels_N.tolist(), strict=True))
    for k in (1, 3):
        right = sum(sum(other > row[label] for other in row) < k for row, label in rows)
        assert top_k(scores_NC, labels_N, k=k) == pytest.approx(100 * right / 200)
    each = [np.mean([row.index(max(row)) == label for row, label in rows if label == c]) for c in range(5)]
    assert mean_per_class(scores_NC, labels_N) == pytest.approx(100 * np.mean(each))
    assert top_k(scores_NC, labels_N, k=50) == 100.0


def test_average_precision_by_hand() -> None:
    # right, wrong, right of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3
    recall, precision = np.array([1, 1, 2]) / 3, np.array([1, 1 / 2, 2 / 3])
    assert average_precision(recall, precision) == pytest.approx(100 * (4 * 1 + 3 * 2 / 3) / 11)
    assert average_precision(recall, precision, points=None) == pytest.approx(100 * (1 / 3 + 1 / 3 * 2 / 3))
    assert average_precision(np.empty(0), np.empty(0)) == 0.0


def test_a_second_prediction_of_an_object_is_wrong_and_a_difficult_one_is_left_out() -> None:
    scene = boxes_of([[0, 0, 10, 10], [20, 20, 30, 30]], [1, 1], [False, True])
    twice = found([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]], [1, 1, 1], [0.9, 0.8, 0.7])
    assert detection_ap([twice], [scene], num_classes=1) == DetectionScores(100.0, 100.0, 100.0)
    late = found([[0, 0, 10, 10], [1, 0, 10, 10]], [1, 1], [0.5, 0.6])  # the surer one, overlap .9, takes the object
    scores = detection_ap([late], [scene], num_classes=1)
    assert scores.ap50 == scores.ap75 == 100.0
    assert scores.ap == pytest.approx(80 + 2 * 50 / 10)  # overlap .9 does not exceed .90 and .95: precision 1/2 there


def test_an_overlap_equal_to_the_threshold_is_a_miss() -> None:
    scene = boxes_of([[0, 0, 10, 10]], [1])
    half = found([[0, 0, 10, 5]], [1], [1.0])
    assert detection_ap([half], [scene], num_classes=1).ap50 == 0.0


def test_a_prediction_never_matches_another_scene_or_class() -> None:
    scenes = [boxes_of([[0, 0, 10, 10]], [1]), boxes_of([[50, 50, 60, 60]], [2])]
    wrong = [found([[50, 50, 60, 60]], [2], [0.9]), found([[50, 50, 60, 60]], [1], [0.9])]
    assert detection_ap(wrong, scenes, num_classes=3) == DetectionScores(0.0, 0.0, 0.0)


def test_nothing_to_find_is_an_error() -> None:
    with pytest.raises(ValueError, match="no scene has an object"):
        detection_ap([found([], [], [])], [boxes_of([], [])], num_classes=2)
    with pytest.raises(ValueError, match="1 predictions for 2 scenes"):
        detection_ap([found([], [], [])], [boxes_of([], [])] * 2, num_classes=2)


def voc_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """VOC's own: corners counted from 1, ends inclusive, hence + 1 to x1 and y1 and to every length."""
    from_one = np.array([1.0, 1.0, 0.0, 0.0])
    a, b = a + from_one, b + from_one
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = float(max(width, 0) * max(height, 0))
    return both / float((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - both)


def naive_ap(
    predictions: list[Predictions], scenes: list[Boxes], label: int, threshold: float, *, points: int | None = 11
) -> float | None:
    total = sum(int(((s.labels == label) & ~s.difficult).sum()) for s in scenes)
    if total == 0:
        return None
    rows = [
        (-p.scores[i], where, p.boxes[i])
        for where, p in enumerate(predictions)
        for i in np.flatnonzero(p.labels == label)
    ]
    taken: set[tuple[int, int]] = set()
    outcome = []
    for _, where, box in sorted(rows, key=lambda row: row[0]):
        scene = scenes[where]
        overlaps = {g: voc_overlap(box, scene.boxes[g]) for g in np.flatnonzero(scene.labels == label).tolist()}
        best = max(overlaps, key=lambda g: overlaps[g]) if overlaps else None
        if best is not None and overlaps[best] > threshold:
            if scene.difficult[best]:
                continue
            outcome.append((where, best) not in taken)
            taken.add((where, best))
        else:
            outcome.append(False)
    curve = [(sum(outcome[: n + 1]) / total, sum(outcome[: n + 1]) / (n + 1)) for n in range(len(outcome))]
    if points is None:  # the area under the best precision at or beyond each recall
        levels = sorted({0.0, *(recall for recall, _ in curve)})
        steps = zip(levels[1:], levels, strict=False)
        return 100 * sum((high - low) * max(p for r, p in curve if r >= high) for high, low in steps)
    best = [max((p for r, p in curve if r >= level), default=0.0) for level in np.arange(0.0, 1.1, 0.1)]  # voc_eval's
    return 100 * sum(best) / 11


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.sampled_from([11, None]))
def test_detection_ap_equals_a_naive_loop(seed: int, points: int | None) -> None:
    rng = np.random.default_rng(seed)
    scenes, predictions = [], []
    for _ in range(6):
        count = int(rng.integers(0, 5))
        corners = rng.integers(0, 20, (count, 2))
        boxes = np.concatenate([corners, corners + rng.integers(3, 15, (count, 2))], 1).astype(np.float32)
        scenes.append(Boxes(boxes, rng.integers(1, 4, count), rng.random(count) < 0.2))
        near = boxes[rng.integers(0, count, 2 * count)] if count else np.empty((0, 4), np.float32)
        near = near + rng.normal(0, 0.7, near.shape).astype(np.float32)
        scores = rng.permutation(1000)[: len(near)].astype(np.float32) + 1000 * len(scenes)  # no ties
        predictions.append(Predictions(near, rng.integers(1, 4, len(near)), scores))
    table = [[naive_ap(predictions, scenes, label, t, points=points) for t in VOC_THRESHOLDS] for label in (1, 2, 3)]
    counted = np.array([row for row in table if row[0] is not None], float)
    if not len(counted):
        return
    total = detection_ap(predictions, scenes, num_classes=3, points=points)
    expected = (counted.mean(), counted[:, 0].mean(), counted[:, 5].mean())
    assert (total.ap, total.ap50, total.ap75) == pytest.approx(expected)


def test_the_order_of_scenes_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    corners = rng.random((40, 2)) * 50
    boxes = np.concatenate([corners, corners + 10], 1).astype(np.float32)
    scenes = [Boxes(boxes[i : i + 4], np.ones(4, np.int64), np.zeros(4, bool)) for i in range(0, 40, 4)]
    moved = [s.boxes + rng.random((4, 4)).astype(np.float32) * 2 for s in scenes]
    ranked = rng.permutation(40).astype(np.float32).reshape(10, 4)
    predictions = [Predictions(b, np.ones(4, np.int64), r) for b, r in zip(moved, ranked, strict=True)]
    forwards = detection_ap(predictions, scenes, num_classes=1)
    assert 0 < forwards.ap75 < forwards.ap50
    assert detection_ap(predictions[::-1], scenes[::-1], num_classes=1) == forwards
