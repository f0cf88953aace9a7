"""Time the evaluations on frozen features beside what others run for the same answer.

    python -m benchmarks.evaluation [--rounds N] [--json FILE]

One pinned core. Inputs are random: no timing here hangs on what is in an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from lightly.utils.benchmarking.knn import knn_predict
from torch import Tensor
from torch.nn import functional

from benchmarks import pairs
from benchmarks.main_lincls import Lincls
from benchmarks.pairs import Figure
from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet, Split, Stack
from leoclr.evaluate.knn import KnnSettings, vote
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LinearSettings

CPU = torch.device("cpu")
RATES = tuple(1e-5 * each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000))
"""As many as facebookresearch/dinov2, dinov2/eval/linear.py, has: 1e-5 to 0.1."""


def figures(rounds: int) -> Iterator[Figure]:
    """Yield the three comparisons."""
    with pairs.one_core():
        yield one_pass(rounds)
        yield cached(rounds)
        yield neighbors(rounds)


def one_pass(rounds: int, *, name: str = "resnet50", side: int = 96, batch: int = 32, classes: int = 1000) -> Figure:
    """Time a step of 13 rates against 13 steps of one rate; an image's way to the network is in neither.

    Raises: RuntimeError when the rates side by side do not end with the weights of a run of their own.
    """
    backbone, data = backbones.build(name), _random(2 * batch, side, classes)
    images_NCHW, labels_N = torch.randn(batch, 3, side, side), torch.arange(batch) % classes
    settings = LinearSettings(view=TestView(resize=side, size=side), batch=batch, refit=False)
    grid, alone = (
        _Given(backbone, data, replace(settings, lrs=lrs), images_NCHW, labels_N) for lrs in (RATES, RATES[-1:])
    )
    for _ in range(2):
        grid.step()
        alone.step()
    if not torch.equal(grid.weight(len(RATES) - 1), alone.weight(0)):
        raise RuntimeError("13 rates in one pass do not have the weights of a run of their own")
    peer = Lincls(backbone, name, classes=classes, lr=RATES[0])
    figure = pairs.compare(
        f"linear probe, 13 rates, one step: R{name[6:]} at {side} px, batch {batch}, fp32",
        grid.step,
        ("facebookresearch/moco main_lincls.py, 13 runs", lambda: peer.step(images_NCHW, labels_N)),
        goal=13,
        rounds=rounds,
        note="weights equal to the last bit",
    )
    many = len(RATES)  # one step of one run is timed: the other twelve are the same
    return replace(figure, ratio=many * figure.ratio, min=many * figure.min, max=many * figure.max)


def cached(rounds: int, *, images: int = 1152, epochs: int = 3) -> Figure:
    """Time eight rates on features that are computed once against eight runs that compute them in every epoch."""
    backbone, data = backbones.build("resnet18"), _random(images, 32, 10)
    lrs, train = RATES[-8:], data.splits["train"]
    settings = LinearSettings(
        view=TestView(resize=32, size=32), epochs=epochs, lrs=lrs, batch=128, augment="none", refit=False
    )
    shown_NCHW = _normalized(data)[: images * 9 // 10]  # the rest chooses among the rates
    labels_N = torch.from_numpy(train.labels[: len(shown_NCHW)])

    def ours() -> None:
        work = LinearProbe(backbone, data, settings=settings, seed=0, device=CPU)
        for epoch in range(work.epochs):
            work.start_epoch(epoch, 0)
            for _ in range(work.steps(epoch)):
                work.train_step()
            work.end_epoch(epoch)

    def theirs() -> None:
        peer = Lincls(backbone, "resnet18", classes=10, lr=lrs[0])
        for _ in range(epochs):
            order = torch.randperm(len(shown_NCHW)).split(settings.batch)
            for chosen in order[: len(shown_NCHW) // settings.batch]:
                peer.step(shown_NCHW[chosen], labels_N[chosen])

    figure = pairs.compare(
        f"linear probe, 8 rates on cached features: R18 at 32 px, {images} images, {epochs} epochs, fp32",
        ours,
        ("facebookresearch/moco main_lincls.py without augmentation, 8 runs", theirs),
        goal=15,
        rounds=rounds,
    )
    many = len(lrs)
    return replace(figure, ratio=many * figure.ratio, min=many * figure.min, max=many * figure.max)


def neighbors(rounds: int, *, queries: int = 2000, bank: int = 50_000, dim: int = 512) -> Figure:
    """Time the vote of 200 neighbors against lightly's. Raises: RuntimeError when a label differs."""
    generator = torch.Generator().manual_seed(0)
    center_CF = torch.randn(10, dim, generator=generator)

    def features(count: int) -> tuple[Tensor, Tensor]:
        classes_N = torch.arange(count) % 10
        noise_NF = torch.randn(count, dim, generator=generator)
        return functional.normalize(0.15 * center_CF[classes_N] + noise_NF, dim=1), classes_N

    (bank_MF, labels_M), (query_NF, _) = features(bank), features(queries)
    bank_FM = bank_MF.T.contiguous()  # as lightly.utils.benchmarking.BenchmarkModule keeps it
    settings = KnnSettings(k=200, temperature=0.1)

    def theirs() -> Tensor:
        order_NC: Tensor = knn_predict(query_NF, bank_FM, labels_M, num_classes=10, knn_k=200, knn_t=0.1)
        return order_NC[:, 0]

    if not torch.equal(vote(bank_MF, labels_M, query_NF, settings=settings), theirs()):
        raise RuntimeError("the vote gives another label than lightly's")
    return pairs.compare(
        f"kNN, k = 200: {queries} queries, {bank} x {dim}",
        lambda: vote(bank_MF, labels_M, query_NF, settings=settings),
        ("lightly knn_predict", theirs),
        goal=2,
        rounds=rounds,
        note="the same labels",
    )


class _Given:
    """A linear probe on one batch, always the same."""

    def __init__(
        self, backbone: Backbone, data: DataSet, settings: LinearSettings, images_NCHW: Tensor, labels_N: Tensor
    ) -> None:
        self._work = LinearProbe(backbone, data, settings=settings, seed=0, device=CPU)
        self._work._batches = _Same(images_NCHW, labels_N)  # in the place of the loader's
        self._work.start_epoch(0, 0)

    def step(self) -> None:
        self._work.train_step()

    def weight(self, which: int) -> Tensor:
        weight_CF: Tensor = self._work.state()["heads"][f"heads.{which}.weight"]
        return weight_CF


class _Same:
    """Fulfills `leoclr.evaluate.batches.Batches`."""

    steps = 1

    def __init__(self, images_NCHW: Tensor, labels_N: Tensor) -> None:
        self.batch, self._images_NCHW, self._labels_N = len(labels_N), images_NCHW, labels_N

    def start(self, epoch: int, step: int) -> None:
        pass

    def take(self) -> tuple[Tensor, Tensor]:
        return self._images_NCHW, self._labels_N


def _random(count: int, side: int, classes: int) -> DataSet:
    """Return random images, as many to train on as to test."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    split = Split(Stack(pixels), np.arange(count) % min(classes, 10))
    names = tuple(str(each) for each in range(classes))
    return DataSet("random", names, {"train": split, "test": split}, (0.5,) * 3, (0.25,) * 3)


def _normalized(data: DataSet) -> Tensor:
    images = data.splits["train"].images
    assert isinstance(images, Stack)
    return (torch.from_numpy(images.images_NHWC).permute(0, 3, 1, 2).float().contiguous() / 255 - 0.5) / 0.25


if __name__ == "__main__":
    pairs.main(figures)
