"""Scores, all in percent 0..100: top-k and mean per-class accuracy, VOC average precision.

Boxes are x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive. VOC's own code counts from 1, has inclusive ends and
therefore adds 1 to every width and height; detectron2 adds 1 to the x1 and y1 of its predictions to get there. In the
coordinates used here both are the plain intersection over union: (x2 - (x1 + 1) + 1) = x2 - x1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leoclr.data.contract import Boxes

VOC_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""Overlaps whose average precisions AP averages; detectron2, PascalVOCDetectionEvaluator.evaluate."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


def top_k(scores_NC: Tensor, labels_N: Tensor, *, k: int) -> float:
    """Return the share of rows whose label is among the `k` best scores, in percent.

    >>> top_k(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]), k=1)
    50.0
    """
    best_Nk = scores_NC.topk(min(k, scores_NC.shape[1]), dim=1).indices
    return 100.0 * (best_Nk == labels_N[:, None]).any(dim=1).double().mean().item()


def mean_per_class(scores_NC: Tensor, labels_N: Tensor) -> float:
    """Return the mean over classes of the accuracy inside each class, in percent; absent classes do not count.

    Source: SimCLR, arXiv:2002.05709, B.8 (Pets, Aircraft, Caltech-101, Flowers).

    >>> mean_per_class(torch.eye(2)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1]))
    50.0
    """
    right_N = (scores_NC.argmax(dim=1) == labels_N).double()
    classes = scores_NC.shape[1]
    images_C = torch.bincount(labels_N, minlength=classes)
    right_C = torch.bincount(labels_N, weights=right_N, minlength=classes)
    present_C = images_C > 0
    return 100.0 * (right_C[present_C] / images_C[present_C]).mean().item()


def accuracies(scores_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Return what every classification ends with, in percent: "top1", "top5" and "mean_per_class"."""
    return {
        "top1": top_k(scores_NC, labels_N, k=1),
        "top5": top_k(scores_NC, labels_N, k=5),
        "mean_per_class": mean_per_class(scores_NC, labels_N),
    }


def average_precision(recall: Floats, precision: Floats, *, points: int | None = 11) -> float:
    """Return the average precision of one class in percent, from the curve in the order of falling scores.

    `points=11` is VOC07's: the mean, over recalls 0, .1 ... 1, of the best precision at or beyond that recall. `None`
    is the area under the same falling envelope (VOC10 and later).
    Source: Everingham et al. 2010, "The PASCAL VOC Challenge", eq. (1) and (2).

    >>> round(average_precision(np.array([0.5, 0.5]), np.array([1.0, 0.5])), 2)   # 6 of the 11 recalls are reached
    54.55
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return 100.0 * float((np.diff(recall, prepend=0.0) * envelope).sum())
    first = np.searchsorted(recall, np.linspace(0, 1, points), side="left")
    return 100.0 * float(np.append(envelope, 0.0)[first].mean())


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a detector says of one scene."""

    boxes: NDArray[np.float32]  # [predictions, 4], pixels, see the head of this file
    labels: NDArray[np.int64]  # [predictions], 1-based as in `Boxes`
    scores: NDArray[np.float32]  # [predictions], higher is surer


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Means over classes, in percent."""

    ap: float  # mean over `VOC_THRESHOLDS`
    ap50: float
    ap75: float


def detection_ap(
    predictions: Sequence[Predictions], scenes: Sequence[Boxes], *, num_classes: int, points: int | None = 11
) -> DetectionScores:
    """Return VOC's scores of one prediction per scene; `num_classes` counts without background.

    In each class, predictions are taken by falling score over all scenes. Each goes to the object of its scene that it
    overlaps most; it is right if the overlap *exceeds* the threshold and no earlier one took that object, left out if
    that object is difficult, else wrong. A class without an object that counts is left out of the mean.
    Source: `voc_eval` of facebookresearch/detectron2, detectron2/evaluation/pascal_voc_evaluation.py, but for its
    rounding of boxes to 0.1 pixel and of scores to 0.001, which is its file format's and not VOC's.

    Raises: ValueError when the lengths differ or no object counts.
    """
    if len(predictions) != len(scenes):
        raise ValueError(f"{len(predictions)} predictions for {len(scenes)} scenes")
    classes = [_class_ap(_select(predictions, scenes, label), points) for label in range(1, num_classes + 1)]
    counted = [by_threshold for by_threshold in classes if by_threshold is not None]
    if not counted:
        raise ValueError("no scene has an object to find")
    mean = np.mean(counted, axis=0)
    return DetectionScores(
        ap=float(mean.mean()),
        ap50=float(mean[VOC_THRESHOLDS.index(0.5)]),
        ap75=float(mean[VOC_THRESHOLDS.index(0.75)]),
    )


@dataclass(frozen=True, slots=True)
class _OneClass:
    """Objects and predictions of one class over all scenes; predictions by falling score."""

    found: Floats  # [P, 4]
    found_scene: Indices  # [P]
    objects: Floats  # [G, 4], scene by scene
    object_scene: Indices  # [G], ascending
    difficult: Flags  # [G]


def _select(predictions: Sequence[Predictions], scenes: Sequence[Boxes], label: int) -> _OneClass:
    boxes = [p.boxes[p.labels == label] for p in predictions]
    scores = np.concatenate([p.scores[p.labels == label] for p in predictions])
    objects = [s.boxes[s.labels == label] for s in scenes]
    order = np.argsort(-scores, kind="stable")
    where = np.arange(len(scenes), dtype=np.int64)
    return _OneClass(
        found=np.concatenate(boxes).reshape(-1, 4)[order].astype(np.float64),
        found_scene=np.repeat(where, [len(b) for b in boxes])[order],
        objects=np.concatenate(objects).reshape(-1, 4).astype(np.float64),
        object_scene=np.repeat(where, [len(o) for o in objects]),
        difficult=np.concatenate([s.difficult[s.labels == label] for s in scenes]),
    )


def _class_ap(one: _OneClass, points: int | None) -> list[float] | None:
    """Return the average precision at each threshold, or None where no object counts."""
    countable = int((~one.difficult).sum())
    if countable == 0:
        return None
    overlap_P, object_P = _best_objects(one)
    return [
        _ap_at(overlap_P > threshold, object_P, one.difficult, countable=countable, points=points)
        for threshold in VOC_THRESHOLDS
    ]


def _best_objects(one: _OneClass) -> tuple[Floats, Indices]:
    """Return each prediction's largest overlap with an object of its scene, and which object (the first of equals)."""
    first = np.searchsorted(one.object_scene, one.found_scene, side="left")
    last = np.searchsorted(one.object_scene, one.found_scene, side="right")
    best = np.full(len(one.found), -1.0)
    which = np.zeros(len(one.found), np.int64)
    # One turn for each rank inside a scene, as many as the fullest scene has objects, over all predictions at once.
    for rank in range(int((last - first).max(initial=0))):
        rows = np.flatnonzero(first + rank < last)
        candidates = first[rows] + rank
        overlap = _overlaps(one.found[rows], one.objects[candidates])
        better = overlap > best[rows]
        best[rows[better]] = overlap[better]
        which[rows[better]] = candidates[better]
    return best, which


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union of boxes, row by row."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    intersection = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - intersection
    overlaps: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlaps


def _ap_at(hit_P: Flags, object_P: Indices, difficult: Flags, *, countable: int, points: int | None) -> float:
    hits = np.flatnonzero(hit_P)
    ignored = np.zeros(len(hit_P), bool)
    ignored[hits] = difficult[object_P[hits]]
    hits = hits[~ignored[hits]]
    right = np.zeros(len(hit_P), bool)
    right[hits[np.unique(object_P[hits], return_index=True)[1]]] = True  # the surest prediction takes the object
    true, false = np.cumsum(right), np.cumsum(~right & ~ignored)
    # 0 / 0 where the first predictions are all ignored: VOC's code divides by the smallest positive number instead
    precision = true / np.maximum(true + false, np.finfo(np.float64).eps)
    return average_precision(true / countable, precision, points=points)
