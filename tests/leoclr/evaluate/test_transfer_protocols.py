"""Transfer protocols: SimCLR's whole grid, weight decay divided by the rate, and a choice without the test split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from leoclr.data.contract import DataSet, Split, Stack
from leoclr.evaluate import protocols
from leoclr.evaluate.transfer_protocols import BYOL, SimCLR, SimCLRScratch, Small


def images(count: int) -> Split:
    return Split(Stack(np.zeros((count, 4, 4, 3), np.uint8)), np.arange(count) % 4)


def data(*, val: int = 0, **facts: Any) -> DataSet:
    parts = {"train": images(40), "test": images(8)} | ({"val": images(val)} if val else {})
    return DataSet("tiny", tuple("abcd"), parts, (0.5,) * 3, (0.25,) * 3, **facts)


def test_the_grid_is_that_of_section_b8() -> None:
    settings = SimCLR()
    points = settings.points()
    assert len(points) == len({(point["lr"], point["weight_decay"]) for point in points}) == 56
    assert settings.lrs == pytest.approx(np.logspace(-4, -1, 7), rel=2e-3)
    assert settings.weight_decays == pytest.approx([0.0, *np.logspace(-6, -3, 7)], rel=2e-3)
    assert (settings.steps, settings.batch, settings.momentum, settings.nesterov) == (20_000, 256, 0.9, True)
    assert (settings.view.resize, settings.view.size, settings.bn_momentum) == (256, 224, "by_epoch")
    assert dataclasses.asdict(BYOL()) == dataclasses.asdict(settings)


def test_the_scratch_baseline_has_its_own_grid() -> None:
    settings = SimCLRScratch()
    assert settings.lrs == pytest.approx(np.logspace(-3, 0, 7), rel=2e-3)
    assert settings.weight_decays == pytest.approx(np.logspace(-5, -1.5, 8), rel=2e-3)
    assert settings.steps == 40_000


def test_weight_decay_is_divided_by_the_rate() -> None:
    training = SimCLR().training({"lr": 1e-4, "weight_decay": 1e-3})
    assert (training.lr, training.weight_decay) == (1e-4, pytest.approx(10.0))
    assert SimCLR().training({"lr": 0.1, "weight_decay": 0.0}).weight_decay == 0


def test_small_is_what_the_quickstart_runs() -> None:
    settings = Small()
    (point,) = settings.points()
    training = settings.training(point)
    assert (training.epochs, training.batch, training.lr, training.weight_decay) == (12, 60, 0.1, 0.0)
    assert len(settings.final(data(), seed=0).chosen) == 4


@pytest.mark.parametrize("name", protocols.PROTOCOLS["transfer"])
def test_trials_have_no_test_split_and_the_last_training_has_all_else(name: str) -> None:
    settings: Any = dataclasses.replace(protocols.settings_type("transfer", name)(), labels_pct=100.0)  # type: ignore[type-var]  # a dataclass
    trial, final = settings.trial(data(valid_size=8), seed=0), settings.final(data(valid_size=8), seed=0)
    assert (set(trial.data.splits), trial.scored) == ({"train", "val"}, "val")
    assert np.bincount(trial.data.splits["val"].labels).tolist() == [2, 2, 2, 2]
    assert (len(trial.chosen), len(final.chosen), final.scored) == (32, 40, "test")
    own = settings.trial(data(val=12), seed=0)
    assert (len(own.chosen), len(own.data.splits["val"])) == (40, 12)
    assert len(settings.final(data(val=12), seed=0).chosen) == 52


def test_data_sets_with_a_number_for_each_class_have_it_held_out() -> None:
    trial = SimCLR().trial(data(valid_per_class=3), seed=0)
    assert np.bincount(trial.data.splits["val"].labels).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lrs", ()),
        ("lrs", (0.0,)),
        ("weight_decays", ()),
        ("weight_decays", (-1.0,)),
        ("labels_pct", 0.0),
        ("labels_pct", 101.0),
        ("valid_images", 0),
        ("epochs", 3),
        ("steps", 0),
        ("batch", 0),
    ],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        dataclasses.replace(SimCLR(), **{field: value})
