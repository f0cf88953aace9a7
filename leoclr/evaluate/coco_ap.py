"""COCO's average precision, to the last digit that of pycocotools' COCOeval for boxes.

Source: https://github.com/cocodataset/cocoapi/blob/8c9bcc3cf640524c4c20a9c40e89cb6a2f2fa0e9/PythonAPI/pycocotools/cocoeval.py
and common/maskApi.c there, `bbIou`. T overlap thresholds, D predictions and G objects of a class in a scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import Boxes
from leoclr.evaluate.metrics import Flags, Floats, Predictions

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""Least overlaps [T], equality included; VOC asks for more than them."""

RECALLS: Floats = np.linspace(0.0, 1.0, 101)

AREAS = {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
"""Range, ends included, of an object's area (of its mask), pixels, by the end of the score's name."""

MOST = 100
"""Predictions of a class in a scene that count, the surest."""


def coco_ap(predictions: Sequence[Predictions], scenes: Sequence[Boxes], *, num_classes: int) -> dict[str, float]:
    """Return "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large" in percent of one prediction per scene.

    `num_classes` counts without background. A class without an object of a range is left out of that range's mean, a
    range without any object is left out of the answer. Crowds are regions that may take any number of predictions,
    which are then neither right nor wrong; `Boxes.difficult` plays no part.
    Raises: ValueError when the lengths differ or no object counts.
    """
    if len(predictions) != len(scenes):
        raise ValueError(f"{len(predictions)} predictions for {len(scenes)} scenes")
    precisions: dict[str, list[Floats]] = {end: [] for end in AREAS}
    for label in range(1, num_classes + 1):
        pairs = [_Pair.of(p, s, label) for p, s in zip(predictions, scenes, strict=True)]
        held = [pair for pair in pairs if len(pair.scores_D) or len(pair.areas_G)]
        for end, limits in AREAS.items():
            mean_T = _class_ap(held, limits)
            if mean_T is not None:
                precisions[end].append(mean_T)
    if not precisions[""]:
        raise ValueError("no scene has an object to find")
    means = {end: 100.0 * np.mean(rows, axis=0) for end, rows in precisions.items() if rows}
    scores = {f"ap{end}": float(mean_T.mean()) for end, mean_T in means.items()}
    return scores | {"ap50": float(means[""][0]), "ap75": float(means[""][5])}


@dataclass(frozen=True, slots=True)
class _Pair:
    """Predictions of one class in one scene, the surest first, and its objects."""

    scores_D: Floats
    sizes_D: Floats  # areas, pixels
    overlaps_DG: Floats
    areas_G: Floats
    crowd_G: Flags

    @classmethod
    def of(cls, found: Predictions, scene: Boxes, label: int) -> _Pair:
        mine, wanted = np.flatnonzero(found.labels == label), scene.labels == label
        mine = mine[np.argsort(-found.scores[mine], kind="stable")][:MOST]
        found_D4, objects_G4 = _sides(found.boxes[mine]), _sides(scene.boxes[wanted])
        crowd_G = scene.crowd[wanted] if len(scene.crowd) else np.zeros(len(objects_G4), bool)
        sizes_D, boxes_G = found_D4[:, 2] * found_D4[:, 3], objects_G4[:, 2] * objects_G4[:, 3]
        areas_G = scene.area[wanted] if len(scene.area) else boxes_G
        return cls(
            found.scores[mine].astype(np.float64), sizes_D, _overlaps(found_D4, objects_G4, crowd_G), areas_G, crowd_G
        )


def _sides(boxes: NDArray[np.float32]) -> Floats:
    """Return x1, y1, width, height: COCO's form, in whose arithmetic overlaps are computed."""
    wide: Floats = boxes.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def _overlaps(found_D4: Floats, objects_G4: Floats, crowd_G: Flags) -> Floats:
    """Return [D, G]: intersection over union, with a crowd over the prediction's own area."""
    a_D14, b_14 = found_D4[:, None], objects_G4[None]
    ends = np.minimum(a_D14[..., :2] + a_D14[..., 2:], b_14[..., :2] + b_14[..., 2:])
    sides_DG2 = np.clip(ends - np.maximum(a_D14[..., :2], b_14[..., :2]), 0, None)
    shared_DG = sides_DG2[..., 0] * sides_DG2[..., 1]
    own_D1, other_1G = (box[..., 2] * box[..., 3] for box in (a_D14, b_14))
    union_DG = np.where(crowd_G, own_D1, own_D1 + other_1G - shared_DG)
    overlaps: Floats = np.divide(shared_DG, union_DG, out=np.zeros_like(shared_DG), where=shared_DG > 0)
    return overlaps


def _class_ap(pairs: Sequence[_Pair], limits: tuple[float, float]) -> Floats | None:
    """Return one class's mean precision [T] over `RECALLS`, or None where no object counts."""
    countable = sum(int((~_ignored(pair, limits)).sum()) for pair in pairs)
    if countable == 0:
        return None
    outcomes = [_match(pair, limits) for pair in pairs]
    order = np.argsort(-np.concatenate([pair.scores_D for pair in pairs]), kind="stable")
    right_TD, wrong_TD = (np.concatenate([each[i] for each in outcomes], axis=1)[:, order] for i in (0, 1))
    rows = [_mean_precision(right, wrong, countable) for right, wrong in zip(right_TD, wrong_TD, strict=True)]
    return np.array(rows)


def _ignored(pair: _Pair, limits: tuple[float, float]) -> Flags:
    flags: Flags = pair.crowd_G | (pair.areas_G < limits[0]) | (pair.areas_G > limits[1])
    return flags


def _match(pair: _Pair, limits: tuple[float, float]) -> tuple[Flags, Flags]:
    """Return at each threshold whether each prediction is right and whether it is wrong, bool [T, D] both.

    From the surest on, each takes the object that it overlaps most among those still free, the last of equals: a
    crowd is always free, an ignored object is taken only where no other can be.
    Source: cocoeval.py, `evaluateImg`.
    """
    ignored_G = _ignored(pair, limits)
    order = np.argsort(ignored_G, kind="stable")
    ignored_G, crowd_G, overlaps_DG = ignored_G[order], pair.crowd_G[order], pair.overlaps_DG[:, order]
    shape = (len(THRESHOLDS), len(pair.scores_D))
    matched_TD, spared_TD = np.zeros(shape, bool), np.zeros(shape, bool)
    taken_TG = np.zeros((len(THRESHOLDS), len(ignored_G)), bool)
    every_T, first = np.arange(len(THRESHOLDS)), int((~ignored_G).sum())
    for d, overlaps_G in enumerate(overlaps_DG if len(ignored_G) else ()):
        enough_TG = overlaps_G >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
        free_TG = np.where(enough_TG & (~taken_TG | crowd_G), overlaps_G, -1.0)
        free_TG[:, first:][(free_TG[:, :first] >= 0).any(axis=1)] = -1.0
        best_T = len(ignored_G) - 1 - free_TG[:, ::-1].argmax(axis=1)
        matched_TD[:, d] = free_TG[every_T, best_T] >= 0
        spared_TD[:, d] = matched_TD[:, d] & ignored_G[best_T]
        taken_TG[every_T, best_T] |= matched_TD[:, d]
    outside_D = (pair.sizes_D < limits[0]) | (pair.sizes_D > limits[1])
    spared_TD |= ~matched_TD & outside_D
    return matched_TD & ~spared_TD, ~matched_TD & ~spared_TD


def _mean_precision(right_D: Flags, wrong_D: Flags, countable: int) -> float:
    """Return the mean over `RECALLS` of the best precision at or beyond each: cocoeval.py, `accumulate`."""
    right, wrong = np.cumsum(right_D, dtype=np.float64), np.cumsum(wrong_D, dtype=np.float64)
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(right / countable, RECALLS, side="left")].mean())
