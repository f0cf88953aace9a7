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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leoclr import backbones, methods
from leoclr.augment import native
from leoclr.augment.views import View
from leoclr.compiling import Compile
from leoclr.data.contract import UNLABELED, DataSet, Images, Split, Stack
from leoclr.evaluate import features, knn
from leoclr.evaluate.knn import KnnSettings
from leoclr.methods.contract import At, Batch, Group, Indices, Method, Step, Survey
from leoclr.pretrain_settings import PretrainSettings
from leoclr.pretraining import Pretraining, facts
from leoclr.stepping import Place
from tests import small_methods

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
    queue = {"queue_size": 32, "dim": 8}
    config = module.Config(**(queue if method in ("leoclr", "moco_v2") else small_methods.SMALL[method]))
    made = module.Method(config, lambda: backbones.build("resnet18", width=2, stem="stride2"), facts(data))
    return Pretraining(made, data, settings, module.views(config, 16), seed=4, place=Place(device=CPU))


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


# 4: between two epochs; byol: a momentum that moves; spcl: chosen images
@pytest.mark.parametrize(("method", "stop"), [("leoclr", 1), ("leoclr", 4), ("moco_v2", 6), ("byol", 3), ("spcl", 6)])
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


def test_who_goes_on_with_other_settings_has_those(data: DataSet) -> None:
    """An optimizer's state names the settings of its time; those that go on from it may have others."""
    first, second = (
        pretraining_of("moco_v2", data, replace(SMALL, sgd_momentum=momentum, weight_decay=decay))
        for momentum, decay in ((0.9, 1e-4), (0.5, 0.01))
    )
    train(first, 0, 3)
    second.load(saved(first.state()))
    optimizer = second._stepper.optimizer
    assert optimizer
    assert {(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.5, 0.01)}
    assert optimizer.state_dict()["state"].keys() == first.state()["optimizer"]["state"].keys() != set()


def test_a_step_in_parts_sees_the_same_images_and_is_recorded_whole(data: DataSet) -> None:
    whole, parts = (probe_of(data, replace(SMALL, accumulate=count)) for count in (1, 4))
    numbers = [train(work, stop=2) for _, work in (whole, parts)]
    assert [each["images"] for each in numbers[1]] == [each["images"] for each in numbers[0]] == [16, 16]
    assert len(parts[0].seen) == 4 * len(whole[0].seen) == 8
    for step, one in enumerate(whole[0].seen):
        passes = parts[0].seen[4 * step : 4 * step + 4]
        torch.testing.assert_close(torch.cat([part.views[0] for part in passes]), one.views[0], rtol=0, atol=0)


class Waits(TorchFunctionMode):
    """Notes what is sent to the device so that CUDA would first finish all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.sent = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moves = function is torch.Tensor.to and isinstance(args[1] if len(args) > 1 else None, torch.device)
        self.sent += moves
        if moves and not kwargs.get("non_blocking", False):
            self.noted.append(f"{tuple(args[0].shape)} {args[0].dtype}")
        if function is torch.tensor and kwargs.get("device") is not None:
            self.noted.append("torch.tensor")
        return function(*args, **kwargs)


# byol: solarized views; clsa: strong ones; leoclr: the shuffle; spcl: clusters of the images; supervised: classes
@pytest.mark.parametrize("method", ["byol", "clsa", "leoclr", "spcl", "supervised"])
def test_a_step_sends_its_numbers_without_waiting_for_the_device(method: str, data: DataSet) -> None:
    work = pretraining_of(method, data)
    work.start_epoch(0, 0)
    with Waits() as waits:
        work.train_step()
    assert waits.sent > 3
    assert waits.noted == []


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
    ("field", "value"),
    [
        ("batch", 0),
        ("accumulate", 0),
        ("accumulate", 3),
        ("lr", 0.0),
        ("epochs", -1),
        ("warmup_epochs", 2),
        ("sgd_momentum", 1.0),
    ],
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
    moving = PretrainSettings(epochs=4, lr=2.0, rate_moves="step", warmup_epochs=1, warmup_start=0.5, final_lr=0.1)
    assert [moving.rate(at) for at in (0.0, 0.5, 1.0, 4.0)] == pytest.approx([1.0, 1.5, 2.0, 0.2])
    assert replace(moving, rate_moves="epoch").rate(0.5) == pytest.approx(1.0)


class Probe(Method):
    """Notes what pre-training hands to a method."""

    def __init__(self, *, reads_classes: bool) -> None:
        super().__init__()
        self.config = None
        self.READS_CLASSES = reads_classes  # type: ignore[misc]  # one class for both cases
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4), nn.BatchNorm1d(4))
        self.slow = nn.Linear(4, 4)
        self.seen: list[Batch] = []
        self.surveys: list[tuple[int, int, Tensor]] = []

    @classmethod
    def coupling(cls, config: Any) -> str:
        return ""

    def forward(self, batch: Batch) -> Step:
        self.seen.append(batch)
        return Step(self.slow(self.backbone(batch.views[0])).square().mean())

    def start_epoch(self, survey: Survey) -> None:
        assert survey.views == (PLAIN,)
        self.surveys.append((survey.epoch, survey.seed, survey.features(PLAIN)))

    def choose(self, indices_N: Indices, at: At) -> Indices:
        return np.concatenate([indices_N, indices_N[::-1]])

    def groups(self) -> list[Group]:
        slow = Group(params=list(self.slow.parameters()), fixed_rate=True)
        return [Group(params=list(self.backbone.parameters())), slow]


PLAIN = View(size=16, crop_scale=None, jitter_p=0, gray_p=0, blur_p=0, flip_p=0)


def probe_of(data: DataSet, settings: PretrainSettings = SMALL, *, reads_classes: bool = False) -> tuple[Probe, Any]:
    probe = Probe(reads_classes=reads_classes)
    return probe, Pretraining(probe, data, settings, (PLAIN,), seed=4, place=Place(device=CPU))


def test_a_method_surveys_all_images_once_an_epoch_in_their_order(data: DataSet) -> None:
    probe, work = probe_of(data)
    train(work, stop=work.steps(0) + 1)
    work.start_epoch(1, 1)  # continues: no survey
    assert [(epoch, seed) for epoch, seed, _ in probe.surveys] == [(0, 4), (1, 4)]
    images = data.splits["train"].images
    pixels = torch.stack([torch.from_numpy(images.read(index)) for index in range(len(images))]).permute(0, 3, 1, 2)
    with features.evaluating(probe.backbone), torch.no_grad():
        rows_MF = probe.backbone((pixels / 255 - 0.5) / 0.3)
    torch.testing.assert_close(work.survey(PLAIN, 7), rows_MF)


def test_a_method_chooses_its_images_and_classes_go_to_those_that_ask(data: DataSet) -> None:
    known = data.splits["train"].labels.copy()
    known[::2] = UNLABELED
    half = replace(data, splits={**data.splits, "train": split(data.splits["train"].images, known.tolist())})
    for reads in (False, True):
        probe, work = probe_of(half, reads_classes=reads)
        numbers = train(work, stop=1)
        (batch,) = probe.seen
        assert numbers[0]["images"] == len(batch.views[0]) == 16  # a batch of 8, each chosen twice
        assert batch.images_N is not None
        assert batch.images_N.tolist()[:8] == batch.images_N.tolist()[:7:-1]
        assert (batch.classes_N is not None) is reads
        if batch.classes_N is not None:
            assert batch.classes_N.tolist() == known[batch.images_N.numpy()].tolist()
            assert UNLABELED not in batch.classes_N.tolist()


def rates_and_decays(work: Any) -> list[tuple[int, float, float]]:
    groups = work._stepper.optimizer.param_groups
    return [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups]


def test_groups_hold_what_the_recipe_says_of_vectors_and_fixed_rates(data: DataSet) -> None:
    settings = replace(SMALL, lr=0.2, vector_lr_scale=0.5, decay_vectors=False, weight_decay=0.1, epochs=4)
    _, work = probe_of(data, settings)
    train(work, start=0, stop=3 * work.steps(0))  # up to the third epoch, whose rate is not the first one's
    falling = settings.rate(2)
    assert rates_and_decays(work) == [
        (1, pytest.approx(falling), 0.1),
        (3, pytest.approx(falling / 2), 0.0),
        (1, pytest.approx(0.2), 0.1),
        (1, pytest.approx(0.1), 0.0),
    ]


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("lars", "LARS"), ("lars_late", "LARS"), ("larc", "LARC")])
def test_every_optimizer_trains(data: DataSet, name: Any, kind: str) -> None:
    work = pretraining_of("moco_v2", data, replace(SMALL, optimizer=name, epochs=1))
    assert type(work._stepper.optimizer).__name__ == kind
    assert all(math.isfinite(numbers["loss"]) for numbers in train(work) if "loss" in numbers)


def test_synchronized_batch_norm_replaces_every_norm(data: DataSet) -> None:
    probe, _ = probe_of(data, replace(SMALL, sync_bn=True))
    assert [type(module).__name__ for module in probe.backbone] == ["Flatten", "Linear", "SynchronizedBatchNorm"]


@pytest.mark.parametrize(("choice", "asks"), [("off", False), ("auto", True)])
def test_machine_code_colors_views_unless_compiling_is_off(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, choice: Compile, asks: bool
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(native, "ready", lambda: asked.append(True))  # there is none
    place = Place(device=CPU, compile=choice)
    train(Pretraining(Probe(reads_classes=False), data, SMALL, (PLAIN,), seed=4, place=place), stop=1)
    assert bool(asked) == asks
