"""Shares of the labels, published lists, and parts of splits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from leoclr.data.contract import UNLABELED, DataError, DataSet, Split, Stack
from leoclr.data.files import Files
from leoclr.data.label_lists import FOLDER, IMAGENET_LISTS, LabelList
from leoclr.evaluate import splits
from leoclr.evaluate.splits import Part, choosing, draw_labels, published_labels

NAMES = ("n01_1.JPEG", "n01_2.JPEG", "n02_1.JPEG", "n02_2.JPEG")
LISTED = "n02_2.JPEG\nn01_1.JPEG\n"


def files(*names: str) -> Split:
    return Split(Files(tuple(Path("/data/train") / name[:3] / name for name in names)), np.array([0, 0, 1, 1]))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a list of 1 %, which is published as far as this test goes."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "1percent.txt").write_text(LISTED)
    known = LabelList("1percent.txt", 2, hashlib.sha256(LISTED.encode()).hexdigest())
    monkeypatch.setitem(IMAGENET_LISTS, 1.0, known)
    return tmp_path


def data(labels: list[int], *, val: int = 0, valid_size: int | None = None) -> DataSet:
    def split(count: int, first: int) -> Stack:
        return Stack(np.arange(first, first + count, dtype=np.uint8)[:, None, None, None].repeat(3, -1))

    parts = {"train": Split(split(len(labels), 0), np.array(labels)), "test": Split(split(2, 200), np.array([0, 1]))}
    if val:
        parts["val"] = Split(split(val, 100), np.zeros(val, np.int64))
    return DataSet("tiny", ("a", "b"), parts, (0.5,) * 3, (0.25,) * 3, valid_size=valid_size)


def test_labels_are_a_whole_number_of_each_class_and_at_least_one() -> None:
    labels = np.array([0] * 400 + [1] * 30 + [2] * 3 + [UNLABELED] * 50)
    chosen = draw_labels(labels, pct=1.0, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [4, 1, 1]
    assert np.bincount(labels[draw_labels(labels, pct=10.0, seed=0)]).tolist() == [40, 3, 1]
    assert draw_labels(labels, pct=100.0, seed=0).tolist() == list(range(433))
    assert (chosen == draw_labels(labels, pct=1.0, seed=0)).all()
    assert (chosen != draw_labels(labels, pct=1.0, seed=1)).any()


def test_a_published_list_names_the_images(root: Path) -> None:
    chosen = published_labels(files(*NAMES), pct=1.0, root=root)
    assert chosen is not None and chosen.tolist() == [0, 3]


def test_without_a_list_there_is_none(root: Path, tmp_path: Path) -> None:
    assert published_labels(files(*NAMES), pct=10.0, root=root) is None
    assert published_labels(files(*NAMES), pct=5.0, root=root) is None
    assert published_labels(files(*NAMES), pct=1.0, root=tmp_path / "other") is None


def test_a_list_of_other_images_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"1 of its 2 images are not in the training split, such as n02_2\.JPEG"):
        published_labels(files(*NAMES[:3], "n02_9.JPEG"), pct=1.0, root=root)
    with pytest.raises(DataError, match="this data set's images are no files"):
        published_labels(data([0, 1]).splits["train"], pct=1.0, root=root)
    unknown = Split(files(*NAMES).images, np.array([UNLABELED, 0, 1, 1]))
    with pytest.raises(DataError, match="whose class is not known"):
        published_labels(unknown, pct=1.0, root=root)


def test_choosing_holds_training_images_out_and_has_no_test_split() -> None:
    whole = data([0] * 10 + [1] * 10 + [UNLABELED] * 5, valid_size=4)
    task = choosing(whole, np.arange(20), images=None, seed=0)
    assert (set(task.data.splits), task.scored) == ({"train", "val"}, "val")
    held = task.data.splits["val"]
    assert np.bincount(held.labels).tolist() == [2, 2]
    read = {int(held.images.read(i)[0, 0, 0]) for i in range(4)}  # in this data set an image's value is its index
    assert read | set(task.chosen.tolist()) == set(range(20))
    assert not read & set(task.chosen.tolist())
    assert len(choosing(whole, np.arange(20), images=6, seed=0).data.splits["val"]) == 6


def test_choosing_takes_the_validation_split_of_the_data_set() -> None:
    task = choosing(data([0, 0, 1, 1], val=3), np.array([1, 2]), images=None, seed=0)
    assert task.chosen.tolist() == [1, 2]
    assert [int(task.data.splits["val"].images.read(i)[0, 0, 0]) for i in range(3)] == [100, 101, 102]


def test_choosing_holds_out_as_many_as_are_asked_for_though_the_data_set_has_its_own() -> None:
    task = choosing(data([0, 0, 1, 1], val=3), np.arange(4), images=2, seed=0)
    assert len(task.data.splits["val"]) == 2 and len(task.chosen) == 2


def test_choosing_leaves_something_to_train_on() -> None:
    whole = data([0, 0, 1, 1], valid_size=2)
    held = np.setdiff1d(np.arange(4), choosing(whole, np.arange(4), images=None, seed=0).chosen)
    with pytest.raises(ValueError, match="^valid_images: "):
        choosing(whole, held, images=None, seed=0)


def test_validation_images_come_behind_the_training_images() -> None:
    joined = splits.with_validation(data([0, 1, 1], val=2)).splits
    assert set(joined) == {"train", "test"}
    values = [int(joined["train"].images.read(i)[0, 0, 0]) for i in range(5)]
    assert (values, joined["train"].labels.tolist()) == ([0, 1, 2, 100, 101], [0, 1, 1, 0, 0])
    plain = data([0, 1])
    assert splits.with_validation(plain) is plain


def test_parts_and_joins_keep_their_kind() -> None:
    split = files(*NAMES)
    kept = splits.part(split, np.array([3, 0])).images
    assert isinstance(kept, Files) and [path.name for path in kept.paths] == [NAMES[3], NAMES[0]]
    both = splits.join(split, splits.part(split, np.array([1]))).images
    assert isinstance(both, Files) and [path.name for path in both.paths] == [*NAMES, NAMES[1]]
    stack = data([0, 1, 1]).splits["train"]
    mixed = splits.join(stack, Split(Part(stack.images, np.array([2])), stack.labels[[2]]))
    assert [int(mixed.images.read(i)[0, 0, 0]) for i in range(len(mixed))] == [0, 1, 2, 2]
    again = splits.part(mixed, np.array([3, 1]))
    assert [int(again.images.read(i)[0, 0, 0]) for i in range(len(again))] == [2, 1]
    assert again.labels.tolist() == [1, 1]
