"""Linear evaluation: continued runs are bit for bit undisturbed ones, and frozen means frozen."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from leoclr import backbones
from leoclr.augment import views
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate import features
from leoclr.evaluate.linear import LinearProbe, LinearSettings

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "view": views.TestView(resize=10, size=8),
    "epochs": 3,
    "batch": 8,
    "lr": 0.5,
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
    assert torch.equal(second.state()["head"]["weight"], whole.state()["head"]["weight"])
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
    weight_CF = work.state()["head"]["weight"].clone().requires_grad_()
    labels_N = torch.from_numpy(data.splits["train"].labels[:34])
    (gradient_CF,) = torch.autograd.grad(functional.cross_entropy(rows_NF @ weight_CF.T, labels_N), weight_CF)
    work.start_epoch(0, 0)
    work.train_step()
    torch.testing.assert_close(work.state()["head"]["weight"], (weight_CF - 0.5 * gradient_CF).detach())


class Louder(backbones.Backbone):
    """A backbone whose features are 1,024 times as large, exactly."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return 1024 * super().forward(images_NCHW)


def test_standardized_features_make_the_scale_of_a_backbone_irrelevant(data: DataSet) -> None:
    results = []
    for kind in (backbones.Backbone, Louder):
        torch.manual_seed(0)
        backbone = kind("resnet18", width=4, stem="stride2")
        settings = LinearSettings(**SMALL | {"lr": 0.1}, augment="none", standardize=True)
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


def test_a_state_of_another_backbone_is_refused(data: DataSet) -> None:
    state = probe(data, augment="none").state()
    torch.manual_seed(1)
    other = backbones.build("resnet18", width=4, stem="stride2")
    work = LinearProbe(other, data, settings=LinearSettings(**SMALL, augment="none"), seed=1, device=CPU)
    with pytest.raises(RuntimeError, match="another backbone"):
        work.load(state)


def test_the_rate_falls_by_a_tenth_at_each_milestone_or_along_a_cosine() -> None:
    step = LinearSettings()
    assert [step.rate(epoch) for epoch in (0, 59, 60, 80)] == pytest.approx([30, 30, 3, 0.3])
    cosine = LinearSettings(schedule="cosine", epochs=10)
    assert [cosine.rate(0), cosine.rate(5)] == pytest.approx([30, 15])


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("lr", -1.0), ("flip_p", 2.0), ("crop_scale", (0.5, 0.2)), ("milestones", (80, 60))],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        LinearSettings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
