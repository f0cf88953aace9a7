"""Fine-tuning: the steps are those of a plain loop, and continued runs are bit for bit undisturbed ones."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from leoclr import backbones
from leoclr.augment import views
from leoclr.data.contract import UNLABELED, DataError, DataSet, Split, Stack
from leoclr.evaluate import features
from leoclr.evaluate.finetune import FineTune
from leoclr.evaluate.finetune_settings import FineTuneSettings
from leoclr.evaluate.splits import Task, draw_labels

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"view": views.TestView(resize=10, size=8), "epochs": 3, "batch": 8, "lr": 0.05}
PLAIN: dict[str, Any] = {"momentum": 0.0, "nesterov": False, "schedule": "constant"}


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 33), ("test", 12)):
        labels = np.arange(count) % 3
        bright = (labels * 80)[:, None, None, None] + rng.integers(0, 60, (count, 12, 12, 3))
        splits[name] = Split(Stack(bright.astype(np.uint8)), labels)
    return DataSet("tiny", tuple("abc"), splits, (0.5,) * 3, (0.25,) * 3)


def tuning(data: DataSet, pct: float = 100.0, **settings: Any) -> FineTune:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    task = Task(data=data, chosen=draw_labels(data.splits["train"].labels, pct=pct, seed=1))
    return FineTune(backbone, task, settings=FineTuneSettings(**SMALL | settings), seed=1, device=CPU)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def steps(work: FineTune, epoch: int, first: int, last: int) -> list[float]:
    work.start_epoch(epoch, first)
    return [float(work.train_step()["loss"]) for _ in range(first, last)]


class Batches:
    """Gives the batches of a work to the plain loop below, once the work has used them."""

    def __init__(self, work: FineTune) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        take = work._batches.take

        def taken() -> tuple[torch.Tensor, torch.Tensor]:
            images, labels = take()
            images = images.to(next(work._model.parameters()).dtype)
            self.seen.append((images.clone(), labels.clone()))
            return images, labels

        work._batches.take = taken  # type: ignore[method-assign]  # to see what it trains on


def nesterov_by_hand(model: nn.Module, batches: Batches, rates: list[tuple[float, float]], decay: float) -> list[float]:
    """Sutskever's momentum as torch writes it: v = 0.9 v + g, p = p - rate (g + 0.9 v), in plain tensors."""
    velocity = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    losses = []
    for (images, labels), (rate, head_rate) in zip(batches.seen, rates, strict=True):
        loss = functional.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        losses.append(loss.item())
        with torch.no_grad():
            for (name, value), gradient in zip(model.named_parameters(), gradients, strict=True):
                gradient = gradient + decay * value
                velocity[name] = 0.9 * velocity[name] + gradient
                value -= (head_rate if name.startswith("head.") else rate) * (gradient + 0.9 * velocity[name])
    return losses


def falling(position: float, total: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * position / total))


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("cosine", [falling(step, 12) for step in range(12)]),
        ("cosine_by_epoch", [falling(step // 4, 3) for step in range(12)]),
        ("step", [1.0] * 4 + [0.2] * 4 + [0.04] * 4),
        ("constant", [1.0] * 12),
    ],
)
def test_the_steps_are_those_of_a_plain_loop(data: DataSet, schedule: str, share: list[float]) -> None:
    work = tuning(data, schedule=schedule, lr=0.01, head_lr=0.04, weight_decay=0.01, milestones=(1, 2), decay=0.2)
    work._model.double()  # batch norm over 8 images of 1 x 1 pixels doubles every rounding at each step
    work._optimizer.load_state_dict(work._optimizer.state_dict())  # casts its velocities too
    twin, batches = copy.deepcopy(work._model).train(), Batches(work)
    losses = [loss for epoch in range(3) for loss in steps(work, epoch, 0, 4)]
    expected = nesterov_by_hand(twin, batches, [(0.01 * each, 0.04 * each) for each in share], 0.01)
    assert losses == pytest.approx(expected, rel=1e-4)
    for (name, ours), theirs in zip(work._model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_a_rate_for_so_many_images_scales_with_the_real_batch() -> None:
    settings = FineTuneSettings(lr=0.05, lr_images=256, epochs=1, batch=4096, schedule="constant")
    assert settings.rate(0, steps_per_epoch=5, batch=4096) == pytest.approx(0.8)  # SimCLR B.5
    assert settings.rate(0, steps_per_epoch=5, batch=64) == pytest.approx(0.0125)  # cut to the images at hand


@pytest.mark.parametrize(("per_epoch", "tensorflow"), [(8, 0.9), (100, 0.9), (200, 0.95), (1000, 0.99)])
def test_batch_norm_remembers_as_long_as_an_epoch_says(per_epoch: int, tensorflow: float) -> None:
    settings = FineTuneSettings(lr=1, steps=1, bn_momentum="by_epoch")
    assert settings.batch_norm_momentum(per_epoch) == pytest.approx(1 - tensorflow)
    assert max(1 - 10 / per_epoch, 0.9) == pytest.approx(tensorflow)  # SimCLR B.8


def test_batch_norm_takes_its_momentum(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FineTuneSettings, "batch_norm_momentum", lambda self, steps_per_epoch: 1.0 / steps_per_epoch)
    work = tuning(data)
    norms = [module for module in work._model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {norm.momentum for norm in norms} == {0.25}


def test_steps_end_in_the_middle_of_a_pass(data: DataSet) -> None:
    work = tuning(data, epochs=None, steps=10)
    assert (work.epochs, [work.steps(epoch) for epoch in range(3)]) == (3, [4, 4, 2])
    whole = [loss for epoch in range(3) for loss in steps(work, epoch, 0, work.steps(epoch))]
    assert len(whole) == 10
    assert work._optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * falling(9, 10))
    again = tuning(data, epochs=None, steps=10)
    steps(again, 0, 0, 4)
    head = steps(again, 1, 0, 3)
    third = tuning(data, epochs=None, steps=10)
    third.load(saved(again.state()))
    assert head + steps(third, 1, 3, 4) + steps(third, 2, 0, 2) == whole[4:]


def test_only_the_chosen_labels_are_trained_on(data: DataSet) -> None:
    few = tuning(data, pct=30.0)  # 3 of the 11 images of each class; a batch of 8 leaves one out
    assert few.steps(0) == 1
    kept = draw_labels(data.splits["train"].labels, pct=30.0, seed=1)
    images = data.splits["train"].images.read(0)[None].repeat(33, 0) * 0
    images[kept] = np.stack([data.splits["train"].images.read(int(i)) for i in kept])
    train = Split(Stack(images), data.splits["train"].labels)
    blanked = dataclasses.replace(data, splits={"train": train, "test": data.splits["test"]})
    assert steps(few, 0, 0, 1) == steps(tuning(blanked, pct=30.0), 0, 0, 1)


def test_images_without_a_label_are_never_trained_on(data: DataSet) -> None:
    labels = data.splits["train"].labels.copy()
    labels[::2] = UNLABELED
    train = Split(data.splits["train"].images, labels)
    work = tuning(dataclasses.replace(data, splits={"train": train, "test": data.splits["test"]}))
    batches = Batches(work)
    steps(work, 0, 0, work.steps(0))
    assert all((labels >= 0).all() for _, labels in batches.seen)
    assert work.finish()["images"] == 16


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
    assert set(whole.finish()) == {"top1", "top5", "mean_per_class", "score", "images"}


def test_the_whole_network_trains(data: DataSet) -> None:
    work = tuning(data, **PLAIN)
    before = {name: value.clone() for name, value in work.state()["model"].items()}
    steps(work, 0, 0, 1)
    assert all(not torch.equal(value, before[name]) for name, value in work.state()["model"].items())


class CountedReads:
    """Images that count how often each was read."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images, self.reads = images, np.zeros(len(images), np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> NDArray[np.uint8]:
        self.reads[index] += 1
        image: NDArray[np.uint8] = self.images[index]
        return image


def test_the_test_split_is_read_once_after_the_last_step(data: DataSet) -> None:
    images = data.splits["test"].images
    counted = CountedReads(np.stack([images.read(i) for i in range(len(images))]))
    test = Split(counted, data.splits["test"].labels)
    work = tuning(dataclasses.replace(data, splits={"train": data.splits["train"], "test": test}))
    for epoch in range(work.epochs):
        steps(work, epoch, 0, 4)
        assert work.end_epoch(epoch) == {}
    assert counted.reads.tolist() == [0] * 12
    work.finish()
    assert counted.reads.tolist() == [1] * 12


def test_the_score_is_what_papers_report_for_the_data_set(data: DataSet) -> None:
    labels = np.array([0] * 9 + [1, 1, 2])
    test = Split(data.splits["test"].images, labels)
    uneven = dataclasses.replace(data, splits={"train": data.splits["train"], "test": test})
    numbers = tuning(dataclasses.replace(uneven, metric="mean_per_class")).finish()
    assert numbers["score"] == numbers["mean_per_class"] != numbers["top1"]
    numbers = tuning(uneven).finish()
    assert numbers["score"] == numbers["top1"]
    with pytest.raises(DataError, match="several classes each"):
        tuning(dataclasses.replace(data, metric="map11"))


def test_finish_moves_nothing(data: DataSet) -> None:
    work = tuning(data)
    steps(work, 0, 0, 2)
    before = features.digest(work._model)
    assert work.finish() == work.finish()
    assert features.digest(work._model) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("head_lr", 0.0),
        ("epochs", 0),
        ("batch", 0),
        ("momentum", 1.5),
        ("weight_decay", -1.0),
        ("crop_scale", (0, 1)),
        ("milestones", (2, 1)),
        ("lr_images", 0),
    ],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        FineTuneSettings(**SMALL | {field: value})


def test_a_training_has_one_length_and_nesterov_a_momentum() -> None:
    with pytest.raises(ValueError, match=r"^epochs: give epochs or steps"):
        FineTuneSettings(lr=1, epochs=1, steps=1)
    with pytest.raises(ValueError, match=r"^epochs: give epochs or steps"):
        FineTuneSettings(lr=1)
    with pytest.raises(ValueError, match=r"^nesterov: "):
        FineTuneSettings(lr=1, epochs=1, momentum=0.0)
