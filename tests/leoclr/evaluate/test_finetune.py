"""Fine-tuning: few labels are balanced, the whole network trains, continued runs are bit for bit undisturbed ones."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from leoclr import backbones
from leoclr.augment import views
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate import features
from leoclr.evaluate.finetune import FineTune, FineTuneSettings, draw_labels

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"view": views.TestView(resize=10, size=8), "epochs": 3, "batch": 8, "lr": 0.05}


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 33), ("test", 12)):
        labels = np.arange(count) % 3
        bright = (labels * 80)[:, None, None, None] + rng.integers(0, 60, (count, 12, 12, 3))
        splits[name] = Split(Stack(bright.astype(np.uint8)), labels)
    return DataSet("tiny", tuple("abc"), splits, (0.5,) * 3, (0.25,) * 3)


def tuning(data: DataSet, **settings: Any) -> FineTune:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    return FineTune(backbone, data, settings=FineTuneSettings(**SMALL | settings), seed=1, device=CPU)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def steps(work: FineTune, epoch: int, first: int, last: int) -> list[float]:
    work.start_epoch(epoch, first)
    return [float(work.train_step()["loss"]) for _ in range(first, last)]


def test_labels_are_a_whole_number_of_each_class_and_at_least_one() -> None:
    labels = np.array([0] * 400 + [1] * 30 + [2] * 3 + [UNLABELED] * 50)
    chosen = draw_labels(labels, pct=1.0, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [4, 1, 1]
    assert np.bincount(labels[draw_labels(labels, pct=10.0, seed=0)]).tolist() == [40, 3, 1]
    assert draw_labels(labels, pct=100.0, seed=0).tolist() == list(range(433))
    assert (chosen == draw_labels(labels, pct=1.0, seed=0)).all()
    assert (chosen != draw_labels(labels, pct=1.0, seed=1)).any()


def test_only_the_drawn_labels_are_trained_on(data: DataSet) -> None:
    few = tuning(data, labels_pct=30.0)  # 3 of the 11 images of each class; a batch of 8 leaves one out
    assert few.steps(0) == 1
    kept = draw_labels(data.splits["train"].labels, pct=30.0, seed=1)
    images = data.splits["train"].images.read(0)[None].repeat(33, 0) * 0
    images[kept] = np.stack([data.splits["train"].images.read(int(i)) for i in kept])
    blanked = DataSet(
        data.name,
        data.classes,
        {"train": Split(Stack(images), data.splits["train"].labels), "test": data.splits["test"]},
        data.mean,
        data.std,
    )
    assert steps(few, 0, 0, 1) == steps(tuning(blanked, labels_pct=30.0), 0, 0, 1)


def test_a_continued_run_is_the_undisturbed_one(data: DataSet) -> None:
    whole = tuning(data)
    losses = [loss for epoch in range(3) for loss in steps(whole, epoch, 0, 4)]
    assert losses[-1] < losses[0]
    first = tuning(data)
    head = steps(first, 0, 0, 4) + steps(first, 1, 0, 2)
    second = tuning(data)
    second.load(saved(first.state()))
    assert head + steps(second, 1, 2, 4) + steps(second, 2, 0, 4) == losses
    ours, theirs = second.state()["model"], whole.state()["model"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert second.finish() == whole.finish()
    assert set(whole.finish()) == {"top1", "mean_per_class"}


def test_the_whole_network_trains_and_the_head_at_its_own_rate(data: DataSet) -> None:
    work = tuning(data, head_lr=0.5, schedule="constant", momentum=0.0, nesterov=False)
    before = {name: value.clone() for name, value in work.state()["model"].items()}
    steps(work, 0, 0, 1)
    after = work.state()["model"]
    assert all(not torch.equal(after[name], before[name]) for name in before)
    plain = tuning(data, schedule="constant", momentum=0.0, nesterov=False)
    steps(plain, 0, 0, 1)
    ratio = (after["head.weight"] - before["head.weight"]) / (
        plain.state()["model"]["head.weight"] - before["head.weight"]
    )
    torch.testing.assert_close(ratio.median(), torch.tensor(10.0), rtol=1e-3, atol=0)
    name = "backbone.conv1.weight"
    torch.testing.assert_close(after[name], plain.state()["model"][name])


def test_the_rate_follows_a_cosine_over_all_steps() -> None:
    settings = FineTuneSettings(lr=0.4)
    assert [settings.rate(0, 10), settings.rate(5, 10), settings.rate(10, 10)] == pytest.approx([0.4, 0.2, 0.0])
    assert FineTuneSettings(lr=0.4, schedule="constant").rate(9, 10) == 0.4


def test_finish_moves_nothing(data: DataSet) -> None:
    work = tuning(data)
    steps(work, 0, 0, 2)
    before = features.digest(work._model)
    assert work.finish() == work.finish()
    assert features.digest(work._model) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels_pct", 0.0),
        ("labels_pct", 101.0),
        ("head_lr", 0.0),
        ("epochs", 0),
        ("momentum", 1.5),
        ("crop_scale", (0, 1)),
    ],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        FineTuneSettings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"^nesterov: "):
        FineTuneSettings(momentum=0.0)
