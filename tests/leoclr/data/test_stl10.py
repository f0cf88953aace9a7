import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.data import stl10
from leoclr.data.contract import UNLABELED, DataError, DataSet, Split, Stack
from leoclr.evaluate.finetune import FineTune
from leoclr.evaluate.finetune_settings import FineTuneSettings
from leoclr.evaluate.knn import NearestNeighbors
from leoclr.evaluate.knn_protocols import KnnProtocol
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LinearSettings
from leoclr.evaluate.splits import Task, draw_labels
from tests.leoclr.data import trees


def test_pixels_are_what_was_written_and_labels_count_from_zero(tmp_path: Path) -> None:
    shown = trees.stl10(tmp_path)
    data = stl10.load(tmp_path)
    for split, images in shown.items():
        assert len(data.splits[split]) == len(images)
        assert all(np.array_equal(data.splits[split].images.read(i), image) for i, image in enumerate(images))
    assert data.splits["train"].labels.tolist() == data.splits["test"].labels.tolist() == list(range(10))
    assert data.splits["unlabeled"].labels.tolist() == [UNLABELED] * 4


def test_it_reads_as_torchvision_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.stl10, "check_integrity", lambda path, md5=None: Path(path).is_file())
    trees.stl10(tmp_path)
    data = stl10.load(tmp_path)
    for split, part in data.splits.items():
        reference = datasets.STL10(tmp_path, split=split)
        assert np.array_equal(part.images.images_NHWC, reference.data.transpose(0, 2, 3, 1))
        assert part.labels.tolist() == reference.labels.tolist()
    assert list(data.classes) == reference.classes


def test_images_can_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    trees.stl10(tmp_path)
    before = (tmp_path / "stl10_binary" / "train_X.bin").read_bytes()
    stl10.load(tmp_path).splits["train"].images.read(0)[:] = 0  # torch warns of memory that it may not write to
    assert (tmp_path / "stl10_binary" / "train_X.bin").read_bytes() == before


def test_without_its_unlabeled_images_it_has_two_splits(tmp_path: Path) -> None:
    trees.stl10(tmp_path)
    (tmp_path / "stl10_binary" / "unlabeled_X.bin").unlink()
    assert sorted(stl10.load(tmp_path).splits) == ["test", "train"]
    assert stl10.digest(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train_X.bin", b""),
        ("train_X.bin", b"\0" * (27648 - 1)),
        ("train_y.bin", b"\1" * 9),
        ("train_y.bin", b"\0" * 10),
        ("test_y.bin", b"\13" * 10),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    trees.stl10(tmp_path)
    (tmp_path / "stl10_binary" / file).write_bytes(content)
    with pytest.raises(DataError, match=rf"{file[:5]}.*\.bin"):
        stl10.load(tmp_path)


def joined(data: DataSet) -> DataSet:
    """Return `data` with its unlabeled images behind the labeled ones of train: torchvision's "train+unlabeled"."""
    train, rest = data.splits["train"], data.splits["unlabeled"]
    images = np.concatenate([train.images.images_NHWC, rest.images.images_NHWC])
    split = Split(Stack(images), np.concatenate([train.labels, rest.labels]))
    return dataclasses.replace(data, splits={"train": split, "test": data.splits["test"]})


def numbers(data: DataSet, kind: str) -> dict[str, float]:
    view, cpu = TestView(resize=24, size=16), torch.device("cpu")
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=2, stem="stride2")
    if kind == "knn":
        return NearestNeighbors(backbone, data, settings=KnnProtocol(view=view, k=(3,)), device=cpu).finish()
    if kind == "linear":
        settings = LinearSettings(view=view, epochs=2, batch=4, milestones=(), lrs=(0.1, 0.2), standardize=True)
        work = LinearProbe(backbone, data, settings=settings, seed=0, device=cpu)
    else:
        drawn = draw_labels(data.splits["train"].labels, pct=100, seed=0)
        task, tuning = Task(data=data, chosen=drawn), FineTuneSettings(view=view, epochs=2, batch=4, lr=0.01)
        work = FineTune(backbone, task, settings=tuning, seed=0, device=cpu)
    shown: list[float] = []
    for epoch in range(work.epochs):
        work.start_epoch(epoch, 0)
        shown += [float(work.train_step()["loss"]) for _ in range(work.steps(epoch))]
        work.end_epoch(epoch)
    return {**work.finish(), **{f"loss {step}": loss for step, loss in enumerate(shown)}}


@pytest.mark.parametrize("kind", ["knn", "linear", "finetune"])
def test_images_without_a_class_change_no_number_of_an_evaluation(kind: str, tmp_path: Path) -> None:
    trees.stl10(tmp_path)
    data = dataclasses.replace(stl10.load(tmp_path), valid_size=None)
    mixed = joined(data)
    assert (mixed.splits["train"].labels == UNLABELED).sum() == 4
    assert numbers(mixed, kind) == numbers(data, kind)
