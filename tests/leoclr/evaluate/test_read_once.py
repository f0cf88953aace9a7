"""Every linear and kNN protocol reads the test split once, at the end, and reports no earlier number."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.data.contract import UNLABELED, DataSet, Split
from leoclr.evaluate.knn import NearestNeighbors
from leoclr.evaluate.knn_protocols import KnnProtocol
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LBFGS
from leoclr.evaluate.logistic import LogisticProbe
from leoclr.evaluate.protocols import PROTOCOLS, settings_type
from leoclr.work import Work

EVERY = [(kind, name) for kind in ("linear", "knn") for name in PROTOCOLS[kind]]
SMALLER: dict[str, Any] = {"epochs": 2, "batch": 8, "milestones": (), "l2_count": 3, "k": (3, 5)}


class Counted:
    """Images that count how often each is read."""

    def __init__(self, images_NHWC: NDArray[np.uint8]) -> None:
        self.images_NHWC, self.reads = images_NHWC, Counter[int]()

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def read(self, index: int) -> NDArray[np.uint8]:
        self.reads[index] += 1
        image_HWC: NDArray[np.uint8] = self.images_NHWC[index]
        return image_HWC


def counted(count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    bright = (labels * 70)[:, None, None, None] + rng.integers(0, 60, (count, 20, 20, 3))
    return Split(Counted(bright.astype(np.uint8)), labels)


def small(settings: Any) -> Any:
    """Return `settings` for images of 16 pixels and a few steps; nothing else of the protocol changes."""
    fields = {field.name for field in dataclasses.fields(settings)}
    changes = {name: value for name, value in SMALLER.items() if name in fields}
    for name in fields & {"view", "random_crop_view"}:
        view = getattr(settings, name)
        changes[name] = view and dataclasses.replace(view, resize=18, size=16)
    return dataclasses.replace(settings, **changes)


def build(settings: Any, data: DataSet) -> Work:
    torch.manual_seed(0)
    backbone, cpu = backbones.build("resnet18", width=2, stem="stride2"), torch.device("cpu")
    if isinstance(settings, KnnProtocol):
        return NearestNeighbors(backbone, data, settings=settings, device=cpu)
    if isinstance(settings, LBFGS):
        return LogisticProbe(backbone, data, settings=settings, seed=0, device=cpu)
    return LinearProbe(backbone, data, settings=settings, seed=0, device=cpu)


def train(work: Work) -> set[str]:
    names: set[str] = set()
    for epoch in range(work.epochs):
        work.start_epoch(epoch, 0)
        for _ in range(work.steps(epoch)):
            names |= work.train_step().keys()
        names |= work.end_epoch(epoch).keys()
    return names


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_test_split_is_read_once_at_the_end(kind: str, name: str) -> None:
    splits = {"train": counted(36, 0), "test": counted(9, 1)}
    splits["train"].labels[[4, 30]] = UNLABELED
    data = DataSet("counted", ("a", "b", "c"), splits, (0.5,) * 3, (0.25,) * 3)
    settings = small(settings_type(kind, name)())
    work = build(settings, data)
    names = train(work)
    test, seen = data.splits["test"].images, data.splits["train"].images
    assert isinstance(test, Counted) and isinstance(seen, Counted)
    assert not test.reads
    assert not any("top" in each and not each.startswith("valid_") for each in names)
    final = work.finish()
    views = 1 + (getattr(settings, "random_crop_view", None) is not None)
    assert test.reads == dict.fromkeys(range(9), views)
    assert {"top1", "top5", "mean_per_class"} <= final.keys()
    assert ("random_crop_top1" in final) == (views == 2)
    assert not seen.reads.keys() & {4, 30}  # images without a class
    assert work.finish() == final


def test_a_random_crop_is_another_image() -> None:
    settings = small(settings_type("linear", "leoclr_table6")())
    assert settings.view == TestView(resize=18, size=16, interpolation="bicubic")
    assert (settings.random_crop_view.crop, settings.random_crop_view.keep_ratio) == ("random_resized", False)
    same = dataclasses.replace(settings, random_crop_view=settings.view)
    data = DataSet("d", ("a", "b", "c"), {"train": counted(36, 0), "test": counted(90, 1)}, (0.5,) * 3, (0.25,) * 3)
    results = []
    for each in (settings, same):
        work = build(dataclasses.replace(each, lrs=(0.3,)), data)
        train(work)
        results.append(work.finish())
    cropped, centered = results
    assert centered["random_crop_top1"] == centered["top1"] == cropped["top1"] != cropped["random_crop_top1"]
