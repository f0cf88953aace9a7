"""Linear evaluation: continued runs are bit for bit undisturbed ones, and frozen means frozen."""

from __future__ import annotations

import dataclasses
import io
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr import backbones
from leoclr.augment import views
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate import features
from leoclr.evaluate.classifiers import Classifiers
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LinearSettings
from leoclr.evaluate.validation import hold_out

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "view": views.TestView(resize=10, size=8),
    "epochs": 3,
    "batch": 8,
    "lrs": (0.5,),
    "milestones": (2,),
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 36), ("test", 18)):
        labels = np.arange(count) % 6
        bright = (labels * 40)[:, None, None, None] + rng.integers(0, 30, (count, 12, 12, 3))
        splits[name] = Split(Stack(bright.astype(np.uint8)), labels)
    splits["train"].labels[-2:] = UNLABELED
    return DataSet("tiny", tuple("abcdef"), splits, (0.5,) * 3, (0.25,) * 3)


def probe(data: DataSet, **settings: Any) -> LinearProbe:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    return LinearProbe(backbone, data, settings=LinearSettings(**SMALL | settings), seed=1, device=CPU)


def train(work: LinearProbe, start: tuple[int, int] = (0, 0), stop: tuple[int, int] = (99, 0)) -> list[float]:
    losses: list[float] = []
    for epoch in range(start[0], work.epochs):
        step = start[1] if epoch == start[0] else 0
        work.start_epoch(epoch, step)
        for position in range(step, work.steps(epoch)):
            if (epoch, position) == stop:
                return losses
            losses.append(float(work.train_step()["loss"]))
        work.end_epoch(epoch)
    return losses


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


@pytest.mark.parametrize("augment", ["crop_flip", "none"])
def test_a_continued_run_is_the_undisturbed_one(data: DataSet, augment: Literal["crop_flip", "none"]) -> None:
    whole = probe(data, augment=augment)
    losses = train(whole)
    assert losses[-1] < losses[0]
    first = probe(data, augment=augment)
    head = train(first, stop=(1, 2))
    second = probe(data, augment=augment)
    second.load(saved(first.state()))
    assert head + train(second, start=(1, 2)) == losses
    assert torch.equal(second.state()["heads"]["heads.0.weight"], whole.state()["heads"]["heads.0.weight"])
    assert second.finish() == whole.finish()


def test_steps_and_images_leave_out_unlabeled_ones_and_the_short_batch(data: DataSet) -> None:
    work = probe(data, augment="none")
    assert work.steps(0) == 4  # 34 labeled images, batches of 8
    work.start_epoch(0, 0)
    assert work.train_step()["images"] == 8
    assert probe(data, augment="none", batch=1000).steps(0) == 1


def test_one_step_is_plain_sgd_on_cached_features(data: DataSet) -> None:
    work = probe(data, augment="none", batch=1000, momentum=0.0)
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    rows_NF = features.extract(backbone, data, "train", view=SMALL["view"], device=CPU)[:34]
    weight_CF = work.state()["heads"]["heads.0.weight"].clone().requires_grad_()
    labels_N = torch.from_numpy(data.splits["train"].labels[:34])
    (gradient_CF,) = torch.autograd.grad(functional.cross_entropy(rows_NF @ weight_CF.T, labels_N), weight_CF)
    work.start_epoch(0, 0)
    work.train_step()
    torch.testing.assert_close(work.state()["heads"]["heads.0.weight"], (weight_CF - 0.5 * gradient_CF).detach())


class Louder(backbones.Backbone):
    """A backbone whose features are 1,024 times as large, exactly."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return 1024 * super().forward(images_NCHW)


def test_standardized_features_make_the_scale_of_a_backbone_irrelevant(data: DataSet) -> None:
    results = []
    for kind in (backbones.Backbone, Louder):
        torch.manual_seed(0)
        backbone = kind("resnet18", width=4, stem="stride2")
        settings = LinearSettings(**SMALL | {"lrs": (0.1,)}, augment="none", standardize=True)
        results.append(train(LinearProbe(backbone, data, settings=settings, seed=1, device=CPU)))
    reference, louder = results
    assert reference[-1] < 0.8 * reference[0]
    assert louder == pytest.approx(reference, rel=1e-5)


def test_a_backbone_that_moves_is_found_after_the_first_epoch_and_at_the_end(data: DataSet) -> None:
    for name in ("layer4.1.conv2.weight", "bn1.running_mean"):
        torch.manual_seed(0)
        backbone = backbones.build("resnet18", width=4, stem="stride2")
        work = LinearProbe(backbone, data, settings=LinearSettings(**SMALL, augment="none"), seed=1, device=CPU)
        with torch.no_grad():
            tensor = backbone.state_dict()[name]
            tensor[(0,) * tensor.ndim] += 1e-3
        with pytest.raises(RuntimeError, match="changed"):
            work.end_epoch(0)
        with pytest.raises(RuntimeError, match="changed"):
            work.finish()


def test_a_copy_that_moves_is_found(data: DataSet) -> None:
    work = probe(data, augment="none")
    with torch.no_grad():
        work._frozen._folded.backbone.bn1 = nn.BatchNorm2d(4)  # any state that the copy should not have
    with pytest.raises(RuntimeError, match="changed"):
        work.end_epoch(0)


def test_in_bf16_the_features_are_others_and_the_classifier_learns_as_well(data: DataSet) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        work = probe(data, augment="none", standardize=True, lrs=(0.1,), precision=precision)
        losses = train(work)
        assert losses[-1] < 0.8 * losses[0]
        found[precision] = losses[-1]
        assert work._rows_MF is not None and work._rows_MF.dtype == torch.float32
    assert found["bf16"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.05)


def test_a_state_of_another_backbone_is_refused(data: DataSet) -> None:
    state = probe(data, augment="none").state()
    torch.manual_seed(1)
    other = backbones.build("resnet18", width=4, stem="stride2")
    work = LinearProbe(other, data, settings=LinearSettings(**SMALL, augment="none"), seed=1, device=CPU)
    with pytest.raises(RuntimeError, match="another backbone"):
        work.load(state)


RATES = (0.05, 2.0, 0.5)
THIRTEEN = (*RATES, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.1)  # as many as DINOv2's grid has


@pytest.mark.parametrize(("augment", "rates"), [("crop_flip", RATES), ("none", THIRTEEN)])
def test_rates_side_by_side_are_bit_for_bit_separate_runs(
    data: DataSet, augment: Literal["crop_flip", "none"], rates: tuple[float, ...]
) -> None:
    grid = probe(data, augment=augment, lrs=rates, nesterov=True, refit=False, standardize=True)
    losses = train(grid)
    kept = dataclasses.replace(data.splits["train"], labels=data.splits["train"].labels.copy())
    kept.labels[grid._held] = UNLABELED
    alone_data = dataclasses.replace(data, splits={**data.splits, "train": kept})
    alone = [probe(alone_data, augment=augment, lrs=(lr,), nesterov=True, standardize=True) for lr in rates]
    assert losses == [min(step) for step in zip(*(train(work) for work in alone), strict=True)]
    for which, work in enumerate(alone):
        for name in ("weight", "bias"):
            together = grid.state()["heads"][f"heads.{which}.{name}"]
            assert torch.equal(together, work.state()["heads"][f"heads.0.{name}"])


def test_the_best_rate_on_held_out_images_is_trained_again_on_all(data: DataSet) -> None:
    work = probe(data, lrs=RATES, valid_images=12)
    assert work.epochs == 6
    train(work)
    chosen = work.state()["valid"]
    again = probe(data, lrs=(chosen["lr"],))
    train(again)
    assert torch.equal(work.state()["heads"]["heads.0.weight"], again.state()["heads"]["heads.0.weight"])
    assert work.finish() == again.finish() | chosen


@pytest.mark.parametrize("augment", ["crop_flip", "none"])
def test_both_trainings_take_their_own_steps_however_many_images_choose(
    data: DataSet, augment: Literal["crop_flip", "none"]
) -> None:
    known = Split(data.splits["train"].images, np.arange(36) % 6)
    with_val = dataclasses.replace(data, splits={**data.splits, "train": known, "val": known})
    work = probe(with_val, augment=augment, lrs=RATES, batch=1000)
    assert [work.steps(epoch) for epoch in range(work.epochs)] == [1] * 6  # a batch of 36, then one of 72
    assert len(train(work)) == 6
    work.start_epoch(5, 0)
    assert work.train_step()["images"] == 72


def test_the_choice_is_the_best_on_held_out_images_of_the_last_epoch(data: DataSet) -> None:
    work = probe(data, augment="none", lrs=RATES, valid_images=12, refit=False)
    train(work)
    _, held = hold_out(data, how="balanced", images=12, seed=1)
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    rows = features.extract(backbone, data, "train", view=SMALL["view"], device=CPU, chosen=held)
    heads = work.state()["heads"]
    right = []
    for which in range(3):
        scores = rows @ heads[f"heads.{which}.weight"].T + heads[f"heads.{which}.bias"]
        right.append(int((scores.argmax(dim=1).numpy() == data.splits["train"].labels[held]).sum()))
    assert len(set(right)) > 1  # or there is nothing to choose
    assert work.state()["valid"]["lr"] == RATES[right.index(max(right))]
    assert work.state()["valid"]["valid_top1"] == pytest.approx(100 * max(right) / 12)


@pytest.mark.parametrize("stop", [(1, 2), (3, 0), (4, 1)])  # among the rates, at the choice, and in the second training
def test_a_continued_choice_is_the_undisturbed_one(data: DataSet, stop: tuple[int, int]) -> None:
    settings: dict[str, Any] = {"augment": "none", "lrs": RATES, "valid_images": 6}
    whole = probe(data, **settings)
    losses = train(whole)
    first = probe(data, **settings)
    head = train(first, stop=stop)
    second = probe(data, **settings)
    if stop[1] == 0:  # the checkpoint at the end of an epoch is made before the next one starts
        first = probe(data, **settings)
        first.epochs = stop[0]
        head = train(first)
    second.load(saved(first.state()))
    assert head + train(second, start=stop) == losses
    assert second.finish() == whole.finish()


def test_what_is_reported_is_what_the_last_step_left(data: DataSet) -> None:
    work = probe(data, augment="none", standardize=True)
    train(work)
    before = work.finish()
    state = work.state()
    for weight in state["heads"].values():
        weight.zero_()
    work.load(state)
    assert work.finish()["top1"] == pytest.approx(100 / 6)  # all scores equal: the first class of six
    assert before["top1"] > 50


def test_a_rate_that_diverges_does_not_stop_the_others(data: DataSet) -> None:
    work = probe(data, augment="none", lrs=(1e38, 0.5), refit=False)
    assert np.isfinite(train(work)).all()
    assert work.state()["valid"]["lr"] == 0.5


@pytest.mark.parametrize("init", ["normal", "zeros", "fan_in"])
def test_initial_weights(init: Literal["normal", "zeros", "fan_in"]) -> None:
    first, second = Classifiers(400, 300, count=2, init=init, seed=0).requires_grad_(False).heads
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    assert torch.equal(first.weight, second.weight)
    # a normal distribution cut at two deviations has 0.8796 of its deviation
    deviation, largest = {"normal": (0.01, 0.1), "zeros": (0, 0), "fan_in": (0.8796 * 0.05, 0.1)}[init]
    assert float(first.weight.std()) == pytest.approx(deviation, rel=0.02)
    assert float(first.weight.abs().max()) <= largest
    assert not first.bias.any()
