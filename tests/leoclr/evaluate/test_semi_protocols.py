"""Semi-supervised protocols: the published settings and lists, and a choice without the test split."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.files import Files
from leoclr.data.label_lists import FOLDER, IMAGENET_LISTS, LabelList
from leoclr.evaluate import protocols
from leoclr.evaluate.semi_protocols import BYOL, BarlowTwins, SemiSupervisedSettings, SimCLR, Small, SwAV
from leoclr.evaluate.splits import draw_labels

FEW = ("n01_0.JPEG", "n02_3.JPEG")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Twenty training files of two classes."""
    names = [f"n{label:02}_{i}.JPEG" for label in (1, 2) for i in range(10)]
    train = Split(Files(tuple(tmp_path / "train" / name for name in names)), np.repeat([0, 1], 10))
    return DataSet("tiny", ("n01", "n02"), {"train": train, "test": train}, (0.5,) * 3, (0.25,) * 3, valid_size=4)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a list of 1 %, which is published as far as this test goes."""
    content = "".join(f"{name}\n" for name in FEW)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "1percent.txt").write_text(content)
    known = LabelList("1percent.txt", 2, hashlib.sha256(content.encode()).hexdigest())
    monkeypatch.setitem(IMAGENET_LISTS, 1.0, known)
    return tmp_path


def test_simclr_is_section_b5() -> None:
    settings = SimCLR()
    assert settings.percents == (1.0, 10.0)
    trainings = [settings.training(percent, settings.points(percent)[0]) for percent in (1, 2, 5, 10, 20, 50, 100)]
    assert [each.epochs for each in trainings] == [60, 60, 60, 30, 30, 30, 30]
    for each in trainings:
        assert (each.batch, each.momentum, each.nesterov, each.weight_decay, each.head_lr) == (4096, 0.9, True, 0, None)
        assert each.rate(0, steps_per_epoch=3, batch=4096) == pytest.approx(0.8)
        assert each.rate(3 * (each.epochs or 0), steps_per_epoch=3, batch=4096) == pytest.approx(0)


def test_byol_sweeps_rates_and_lengths() -> None:
    settings = BYOL()
    for percent in (1.0, 10.0):
        points = settings.points(percent)
        assert {point["lr"] for point in points} == {0.01, 0.02, 0.05, 0.1, 0.005}
        assert {point["epochs"] for point in points} == {30, 50}
        assert len(points) == 10
        training = settings.training(percent, points[0])
        assert (training.batch, training.lr, training.epochs, training.lr_images) == (1024, 0.005, 30, None)


def test_swav_falls_at_its_steps_and_has_two_rates_for_each_share() -> None:
    settings = SwAV()
    few, many = (settings.training(percent, settings.points(percent)[0]) for percent in (1, 10))
    assert [(each.lr, each.head_lr, each.epochs, each.nesterov) for each in (few, many)] == [
        (0.02, 5.0, 20, False),
        (0.01, 0.2, 20, False),
    ]
    rates = [many.rate(epoch * 7, steps_per_epoch=7, batch=256) for epoch in (0, 11, 12, 15, 16, 19)]
    assert rates == pytest.approx([0.01, 0.01, 0.002, 0.002, 0.0004, 0.0004])


def test_barlow_twins_moves_its_cosine_once_an_epoch() -> None:
    settings = BarlowTwins()
    training = settings.training(1.0, settings.points(1.0)[0])
    assert (training.lr, training.head_lr, training.batch) == (0.005, 0.5, 256)
    rates = [training.rate(step, steps_per_epoch=4, batch=256) for step in (0, 3, 4, 7)]
    assert rates[0] == rates[1] == 0.005
    assert rates[2] == rates[3] == pytest.approx(0.005 * (1 + np.cos(np.pi / 20)) / 2)


def test_small_is_what_the_quickstart_runs() -> None:
    settings = Small()
    few, many = (settings.training(percent, settings.points(percent)[0]) for percent in (1, 10))
    assert [(each.epochs, each.batch, each.lr, each.flip_p) for each in (few, many)] == [
        (30, 40, 0.1, 0.0),
        (6, 50, 0.1, 0.0),
    ]


@pytest.mark.parametrize("name", protocols.PROTOCOLS["semi_supervised"])
def test_every_protocol_can_train_every_share(name: str) -> None:
    settings: Any = protocols.settings_type("semi_supervised", name)()
    for percent in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0):
        for point in settings.points(percent):
            assert settings.training(percent, point).total(3) > 0


def test_published_lists_are_used_where_the_user_has_them(data: DataSet, listed: Path) -> None:
    task = SimCLR().final(data, 1.0, root=listed, seed=0)
    images = data.splits["train"].images
    assert isinstance(images, Files)
    assert [images.paths[i].name for i in task.chosen] == list(FEW)
    assert (task.facts, task.scored) == ({"published_list": 1.0}, "test")
    drawn = SimCLR().final(data, 10.0, root=listed, seed=0)
    assert (len(drawn.chosen), drawn.facts) == (2, {"published_list": 0.0})
    labels = data.splits["train"].labels
    never = SimCLR(lists="draw").final(data, 1.0, root=listed, seed=3)
    assert never.chosen.tolist() == draw_labels(labels, pct=1.0, seed=3).tolist()


def test_published_lists_can_be_insisted_on(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no published list of 10 % of the labels"):
        SimCLR(lists="published").final(data, 10.0, root=tmp_path, seed=0)


def test_a_grid_is_chosen_without_the_test_split(data: DataSet, tmp_path: Path) -> None:
    settings = BYOL()
    final = settings.final(data, 50.0, root=tmp_path, seed=0)
    trial = settings.trial(data, 50.0, root=tmp_path, seed=0)
    assert (set(trial.data.splits), trial.scored, len(trial.data.splits["val"])) == ({"train", "val"}, "val", 4)
    assert set(trial.chosen.tolist()) < set(final.chosen.tolist())
    held = trial.data.splits["val"].images
    assert isinstance(held, Files)
    names = {path.name for path in held.paths}
    images = data.splits["train"].images
    assert isinstance(images, Files)
    assert not names & {images.paths[i].name for i in trial.chosen}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("percents", ()),
        ("percents", (1.0, 1.0)),
        ("percents", (0.0,)),
        ("percents", (101.0,)),
        ("few_lrs", ()),
        ("epochs", (0,)),
        ("few_batch", 0),
        ("valid_images", 0),
        ("momentum", 2.0),
    ],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: Any) -> None:
    settings: SemiSupervisedSettings = SimCLR()
    with pytest.raises(ValueError, match=f"^{field}: "):
        dataclasses.replace(settings, **{field: value})
