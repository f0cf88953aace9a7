"""Held-out images: labeled, of the training split, as many as asked for, the same again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate.splits import with_validation
from leoclr.evaluate.validation import hold_out


def data(counts: tuple[int, ...] = (40, 20, 10), unlabeled: int = 7, **fields: int) -> DataSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(np.append(labels, np.full(unlabeled, UNLABELED)))
    split = Split(Stack(np.zeros((len(labels), 2, 2, 3), np.uint8)), labels)
    names = tuple("abcdef"[: len(counts)])
    return DataSet("d", names, {"train": split, "test": split}, (0.5,) * 3, (0.5,) * 3, **fields)  # type: ignore[arg-type]  # only whole numbers are given


def classes(data: DataSet, indices: np.ndarray) -> list[int]:
    return [int((data.splits["train"].labels[indices] == label).sum()) for label in range(3)]


@pytest.mark.parametrize("how", ["balanced", "last"])
def test_kept_and_held_are_the_labeled_images_once_each(how: str) -> None:
    source = data()
    kept, held = hold_out(source, how=how, images=21, seed=3)  # type: ignore[arg-type]  # a parameter's text
    assert len(held) == 21
    assert sorted([*kept, *held]) == np.flatnonzero(source.splits["train"].labels != UNLABELED).tolist()


def test_balanced_is_in_proportion_and_drawn_from_the_seed() -> None:
    source = data()
    _, held = hold_out(source, how="balanced", images=21, seed=3)
    assert classes(source, held) == [12, 6, 3]
    again = [hold_out(source, how="balanced", images=21, seed=seed)[1].tolist() for seed in (3, 4)]
    assert again[0] == held.tolist() != again[1]


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    source = data()
    _, held = hold_out(source, how="balanced", images=10, seed=0)  # 5.71, 2.86, 1.43
    assert classes(source, held) == [6, 3, 1]


def test_last_is_the_end_of_the_labeled_images() -> None:
    source = data()
    kept, held = hold_out(source, how="last", images=5, seed=0)
    assert kept.max() < held.min()


def test_sizes_come_from_the_data_sets_papers_or_are_a_tenth() -> None:
    assert len(hold_out(data(), how="balanced", images=None, seed=0)[1]) == 7
    assert len(hold_out(data(valid_size=30), how="last", images=None, seed=0)[1]) == 30
    of_each = data(valid_size=30, valid_per_class=4)
    assert classes(of_each, hold_out(of_each, how="balanced", images=None, seed=0)[1]) == [4, 4, 4]


def test_a_data_sets_own_validation_images_choose() -> None:
    source = data()
    val = Split(Stack(np.zeros((5, 2, 2, 3), np.uint8)), np.array([0, 1, UNLABELED, 2, 2]))
    source = dataclasses.replace(source, splits={**source.splits, "val": val}, valid_size=30)
    kept, held = hold_out(source, how="balanced", images=None, seed=0)
    assert kept.tolist() == np.flatnonzero(source.splits["train"].labels != UNLABELED).tolist()
    assert with_validation(source).splits["train"].labels[held].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("images", [70, 1000])
def test_something_must_be_left_to_train_on(images: int) -> None:
    with pytest.raises(ValueError, match=r"^valid_images: \d+ of 70 training images"):
        hold_out(data(), how="balanced", images=images, seed=0)
