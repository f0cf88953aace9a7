"""Pre-training continues bit for bit after any step, and its monitor never sees a test image."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from leoclr import backbones, methods
from leoclr.data.contract import UNLABELED, DataSet, Images, Split, Stack
from leoclr.evaluate import features, knn
from leoclr.evaluate.knn import KnnSettings
from leoclr.pretraining import Pretraining, PretrainSettings

CPU = torch.device("cpu")
SMALL = PretrainSettings(
    epochs=2,
    batch=8,
    image_size=16,
    backbone="resnet18",
    width=2,
    stem="stride2",
    lr=0.05,
    knn_every=1,
    knn=KnnSettings(k=3),
)
CLASSES, PER_CLASS = 3, 12


class Forbidden:
    """A test split that says when somebody looks."""

    def __len__(self) -> int:
        return 5

    def read(self, index: int) -> NDArray[np.uint8]:
        raise AssertionError(f"test image {index} was read")


def split(images: Images, labels: list[int]) -> Split:
    return Split(images, np.array(labels, dtype=np.int64))


@pytest.fixture(scope="module")
def data() -> DataSet:
    """Noise in a color that tells the class, and a test split that must not be read."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    noise = rng.integers(0, 60, (len(labels), 16, 16, 3), dtype=np.uint8)
    for image, label in zip(noise, labels, strict=True):
        image[..., label] += 180
    train = split(Stack(noise), labels.tolist())
    splits = {"train": train, "test": split(Forbidden(), [0] * 5)}
    return DataSet("noise", ("red", "green", "blue"), splits, (0.5,) * 3, (0.3,) * 3)


def pretraining_of(method: str, data: DataSet, settings: PretrainSettings = SMALL) -> Pretraining:
    torch.manual_seed(4)
    torch.set_num_threads(1)
    module = methods.module(method)
    config = module.Config() if method == "random" else module.Config(queue_size=32, dim=8)
    made = module.Method(config, lambda: backbones.build("resnet18", width=2, stem="stride2"))
    return Pretraining(made, data, settings, module.views(config, 16), seed=4, device=CPU)


def train(work: Pretraining, start: int = 0, stop: int = 1_000) -> list[Any]:
    """Run the steps from `start` up to `stop`; return every number but the last ones."""
    numbers: list[Any] = []
    total = 0
    for epoch in range(work.epochs):
        steps = work.steps(epoch)
        if start < total + steps and stop > total:
            work.start_epoch(epoch, max(0, start - total))
        for _ in range(steps):
            if start <= total < stop:
                numbers.append({name: float(value) for name, value in work.train_step().items()})
            total += 1
        if start < total <= stop:
            numbers.append(work.end_epoch(epoch))
    return numbers


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return `state` as another process reads it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


@pytest.mark.parametrize(("method", "stop"), [("leoclr", 1), ("leoclr", 4), ("moco_v2", 6)])  # 4: between two epochs
def test_a_continued_run_is_the_undisturbed_one(method: str, stop: int, data: DataSet) -> None:
    whole, first, second = (pretraining_of(method, data) for _ in range(3))
    expected = train(whole)
    assert len([each for each in expected if "loss" in each]) == 8  # 36 images make 4 batches of 8
    head = train(first, stop=stop)
    torch.rand(7)  # another process has another global generator
    np.random.rand(7)
    second.load(saved(first.state()))
    assert head + train(second, start=stop) == expected
    torch.testing.assert_close(second.state(), whole.state(), rtol=0, atol=0)
    assert second.finish() == whole.finish()


def test_every_state_tensor_has_moved_a_trained_method(data: DataSet) -> None:
    """So that the comparison above is one of something."""
    work = pretraining_of("leoclr", data)
    before = saved(work.state())["method"]
    train(work, stop=7)  # after 8 the queue's pointer is back at its start
    after = work.state()["method"]
    still = [name for name, tensor in after.items() if torch.equal(tensor, before[name])]
    assert len(after) > 50
    assert not still


def test_a_step_records_the_whole_batch_and_the_rate_of_its_epoch(data: DataSet) -> None:
    work = pretraining_of("moco_v2", data)
    steps = [each for each in train(work) if "loss" in each]
    assert {each["images"] for each in steps} == {8}
    assert [each["lr"] for each in steps] == [0.05] * 4 + [0.025] * 4  # cosine: half way down after half the epochs


def test_the_control_is_saved_as_it_started(data: DataSet) -> None:
    work = pretraining_of("random", data, replace(SMALL, epochs=0))
    assert (work.epochs, work.state()["optimizer"]) == (0, None)
    before = saved(work.state())
    scores = work.finish()
    assert set(scores) == {"knn_top1"}
    torch.testing.assert_close(work.state(), before, rtol=0, atol=0)
    other = pretraining_of("random", data, replace(SMALL, epochs=0))
    torch.nn.init.zeros_(next(other.method.backbone.parameters()))
    other.load(before)
    assert other.finish() == scores


def test_the_monitor_holds_out_an_eighth_and_finds_what_is_plain_to_see(data: DataSet) -> None:
    work = pretraining_of("random", data, replace(SMALL, epochs=0))
    work.method.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # sees the mean color
    assert work.finish() == {"knn_top1": 100.0}  # a test image would have raised


def test_the_monitor_counts_by_hand(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def red_only(rows_MF: Any, labels_M: Any, queries_QF: Any, *, settings: Any) -> Any:
        assert (len(rows_MF), len(queries_QF)) == (CLASSES * (PER_CLASS - 1), CLASSES)  # one in 12 is held out
        return torch.zeros(len(queries_QF), dtype=torch.int64)

    monkeypatch.setattr(knn, "vote", red_only)
    assert pretraining_of("random", data, replace(SMALL, epochs=0)).finish() == {"knn_top1": pytest.approx(100 / 3)}


def test_the_monitor_looks_when_it_is_told_and_only_at_training_images(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    extract = features.extract

    def watched(model: Any, data: DataSet, name: str, **options: Any) -> Any:
        seen.append(name)
        return extract(model, data, name, **options)

    monkeypatch.setattr(features, "extract", watched)
    for every, looks in ((1, [0, 1]), (2, [1]), (0, [])):
        work = pretraining_of("moco_v2", data, replace(SMALL, epochs=3, knn_every=every))
        assert [epoch for epoch in range(3) if work.end_epoch(epoch)] == looks  # the last epoch's look is `finish`
    assert set(seen) == {"train"}


def test_images_without_labels_are_trained_on_and_labels_stay_with_the_monitor(data: DataSet) -> None:
    more = split(Stack(np.zeros((20, 16, 16, 3), np.uint8)), [UNLABELED] * 20)
    work = pretraining_of("moco_v2", replace(data, splits={**data.splits, "unlabeled": more}))
    assert work.steps(0) == 20 // 8
    relabeled = split(data.splits["train"].images, [0] * (CLASSES * PER_CLASS))
    one = pretraining_of("moco_v2", data)
    two = pretraining_of("moco_v2", replace(data, splits={**data.splits, "train": relabeled}))
    for each in (one, two):
        train(each, stop=2)
    torch.testing.assert_close(one.state(), two.state(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("field", "value"), [("batch", 0), ("lr", 0.0), ("epochs", -1), ("warmup_epochs", 2), ("sgd_momentum", 1.0)]
)
def test_settings_name_the_field_that_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(SMALL, **{field: value})


def test_rates_of_each_schedule() -> None:
    cosine = PretrainSettings(epochs=4, lr=1.0)
    assert [cosine.rate(epoch) for epoch in range(4)] == pytest.approx(
        [0.5 + 0.5 * math.cos(math.pi * epoch / 4) for epoch in range(4)]
    )
    step = PretrainSettings(epochs=4, lr=1.0, schedule="step", milestones=(1, 3))
    assert [step.rate(epoch) for epoch in range(4)] == pytest.approx([1.0, 0.1, 0.1, 0.01])
    warm = PretrainSettings(epochs=4, lr=1.0, schedule="constant", warmup_epochs=2)
    assert warm.rate(0) < warm.rate(1) <= warm.rate(2) == warm.rate(3) == 1.0
