"""Logistic regression against scikit-learn's; the protocol's choice, its continuation, and what it never does."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate import features, logistic
from leoclr.evaluate.linear_protocols import LBFGS
from leoclr.evaluate.logistic import LogisticProbe, Solution, fit
from leoclr.evaluate.validation import hold_out

CPU = torch.device("cpu")
VIEW = TestView(resize=12, size=12)


def problem(rows: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Return overlapping classes with features as a network has them: positive, correlated, of unequal size."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, rows)
    mixing = rng.normal(size=(6, 10))
    hidden = rng.normal(size=(4, 6))[labels] + 1.5 * rng.normal(size=(rows, 6))
    return torch.tensor(np.maximum(hidden @ mixing, 0) + 0.3, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize("l2", [1e5, 100.0, 1.0, 0.01, 1e-6])
def test_probabilities_are_scikit_learns(l2: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "CHUNK", 64)  # several chunks, the last one short
    rows, labels = problem()
    ours, value = fit(rows, labels, l2=l2, start=Solution.zeros(10, 4, CPU), iterations=1000)
    theirs = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=20_000).fit(rows.double().numpy(), labels.numpy())
    expected = theirs.predict_proba(rows.double().numpy())
    np.testing.assert_allclose(ours.scores(rows).softmax(dim=1).numpy(), expected, atol=1e-4)
    loss = -np.log(expected[np.arange(len(labels)), labels]).sum() + l2 / 2 * np.square(theirs.coef_).sum()
    assert value == pytest.approx(loss / len(labels), rel=1e-6)


def test_where_it_starts_does_not_matter() -> None:
    rows, labels = problem()
    weak, _ = fit(rows, labels, l2=0.01, start=Solution.zeros(10, 4, CPU), iterations=1000)
    cold, _ = fit(rows, labels, l2=1.0, start=Solution.zeros(10, 4, CPU), iterations=1000)
    warm, _ = fit(rows, labels, l2=1.0, start=weak, iterations=1000)
    torch.testing.assert_close(warm.weight_FC, cold.weight_FC, atol=1e-4, rtol=0)


def data() -> DataSet:
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 60), ("test", 18)):
        labels = np.arange(count) % 3
        bright = (labels * 40)[:, None, None, None] + rng.integers(0, 90, (count, 12, 12, 3))
        splits[name] = Split(Stack(bright.astype(np.uint8)), labels)
    splits["train"].labels[-2:] = UNLABELED
    return DataSet("tiny", tuple("abc"), splits, (0.5,) * 3, (0.25,) * 3)


def probe(**changes: Any) -> LogisticProbe:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    settings = LBFGS(view=VIEW, l2_range=(1e-2, 1e4), l2_count=4, valid_images=18, **changes)
    return LogisticProbe(backbone, data(), settings=settings, seed=1, device=CPU)


def train(work: LogisticProbe, epochs: range) -> list[dict[str, float]]:
    numbers = []
    for epoch in epochs:
        work.start_epoch(epoch, 0)
        numbers.append({**work.train_step(), **work.end_epoch(epoch)})
    return numbers  # type: ignore[return-value]  # this work's numbers are all plain ones


def test_each_penalty_is_fitted_without_the_held_out_images_and_the_best_is_refitted_on_all() -> None:
    work = probe()
    numbers = train(work, range(work.epochs))
    assert [epoch["images"] for epoch in numbers] == [40, 40, 40, 40, 58]
    kept, held = hold_out(data(), how="balanced", images=18, seed=1)
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    rows = features.extract(backbone, data(), "train", view=VIEW, device=CPU).double().numpy()
    labels = data().splits["train"].labels
    expected = [
        100
        * LogisticRegression(C=1 / l2, tol=1e-9, max_iter=20_000)
        .fit(rows[kept], labels[kept])
        .score(rows[held], labels[held])
        for l2 in (1e4, 1e2, 1, 1e-2)
    ]
    assert [epoch["valid_top1"] for epoch in numbers[:4]] == pytest.approx(expected)
    assert len(set(expected)) > 1  # or there is nothing to choose
    best = (1e4, 1e2, 1, 1e-2)[expected.index(max(expected))]
    final = work.finish()
    assert (final["l2"], final["valid_top1"]) == pytest.approx((best, max(expected)))
    labeled = labels != UNLABELED
    refitted = LogisticRegression(C=1 / best, tol=1e-9, max_iter=20_000).fit(rows[labeled], labels[labeled])
    torch.manual_seed(0)
    test_rows = features.extract(backbone, data(), "test", view=VIEW, device=CPU).double().numpy()
    assert final["top1"] == pytest.approx(100 * refitted.score(test_rows, data().splits["test"].labels))


def test_without_a_second_fit_the_chosen_one_is_scored() -> None:
    with_refit, without = probe(), probe(refit=False)
    train(with_refit, range(4))
    train(without, range(without.epochs))
    assert without.epochs == 4
    assert without.finish() == with_refit.finish()


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_continued_run_is_the_undisturbed_one(stop: int) -> None:
    whole, first, second = probe(), probe(), probe()
    numbers = train(whole, range(whole.epochs))
    head = train(first, range(stop))
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    second.load(torch.load(buffer, weights_only=True))
    assert head + train(second, range(stop, second.epochs)) == numbers
    assert second.finish() == whole.finish()


def test_a_state_of_another_backbone_is_refused() -> None:
    state = probe().state() | {"backbone_sha256": "0"}
    with pytest.raises(RuntimeError, match="another backbone"):
        probe().load(state)
