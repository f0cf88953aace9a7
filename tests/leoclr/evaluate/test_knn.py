"""The vote against a loop over queries and neighbors, and against its own invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightly.utils.benchmarking.knn import knn_predict
from torch import Tensor
from torch.nn import functional

from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate import features, neighbors
from leoclr.evaluate.knn import KnnSettings, NearestNeighbors, vote, votes
from leoclr.evaluate.knn_protocols import KnnProtocol


def random_rows(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_vote(bank: Tensor, labels: list[int], query: Tensor, k: int, temperature: float) -> int:
    cosines = [float(query @ row / (query.norm() * row.norm())) for row in bank]
    nearest = sorted(range(len(bank)), key=lambda m: -cosines[m])[:k]
    votes: dict[int, float] = {}
    for m in nearest:
        votes[labels[m]] = votes.get(labels[m], 0.0) + math.exp(cosines[m] / temperature)
    return max(votes, key=lambda c: votes[c])


@pytest.mark.parametrize("k", [1, 7, 200])  # 200 is more than the bank has
def test_vote_equals_a_naive_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BANK_BYTES", 4 * 6 * 9)  # several blocks, the last one short
    bank, queries = random_rows(40, 0), random_rows(25, 1)
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(2))
    expected = [naive_vote(bank, labels.tolist(), query, k, 0.1) for query in queries]
    assert vote(bank, labels, queries, settings=KnnSettings(k=k)).tolist() == expected


def test_vote_ignores_the_length_of_features_and_the_order_of_the_bank() -> None:
    bank, queries = random_rows(40, 0), random_rows(25, 1)
    labels = torch.arange(40) % 4
    settings = KnnSettings(k=5)
    reference = vote(bank, labels, queries, settings=settings)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    moved = vote(3 * bank[order], labels[order], 0.2 * queries, settings=settings)
    assert torch.equal(moved, reference)


@pytest.mark.parametrize(("k", "temperature"), [(5, 0.1), (40, 0.07)])
def test_votes_order_the_classes_as_lightly_does(k: int, temperature: float) -> None:
    bank, queries = functional.normalize(random_rows(60, 4)), functional.normalize(random_rows(30, 5))
    labels = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(6))
    expected = knn_predict(queries, bank.T, labels, 4, k, temperature)
    (found,) = votes(bank, labels, queries, ks=(k,), temperature=temperature)
    assert torch.equal(found.argmax(dim=1), expected[:, 0])
    order = found.argsort(dim=1, descending=True, stable=True)
    voted = found.gather(1, order) > 0  # classes without a vote have no order
    assert torch.equal(order[voted], expected[voted])


def test_one_search_serves_several_ks() -> None:
    bank, queries = random_rows(60, 4), random_rows(30, 5)
    labels = torch.arange(60) % 4
    together = votes(bank, labels, queries, ks=(20, 3, 100), temperature=0.1, classes=6)
    for k, found in zip((20, 3, 100), together, strict=True):
        (alone,) = votes(bank, labels, queries, ks=(k,), temperature=0.1, classes=6)
        assert found.shape == (30, 6)
        torch.testing.assert_close(found, alone)


def test_a_stage_ends_with_accuracies_of_the_first_k_and_top1_of_all() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = ((labels * 80)[:, None, None, None] + rng.integers(0, 90, (24, 8, 8, 3))).astype(np.uint8)
    splits = {"train": Split(Stack(images[:18]), labels[:18].copy()), "test": Split(Stack(images[18:]), labels[18:])}
    splits["train"].labels[3] = UNLABELED
    data = DataSet("tiny", ("a", "b", "c"), splits, (0.5,) * 3, (0.25,) * 3)
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=2, stem="stride2")
    settings = KnnProtocol(view=TestView(resize=8, size=8), k=(4, 1), temperature=0.1)
    final = NearestNeighbors(backbone, data, settings=settings, device=torch.device("cpu")).finish()
    rows = {
        name: features.extract(backbone, data, name, view=settings.view, device=torch.device("cpu")) for name in splits
    }
    known = [i for i in range(18) if i != 3]
    bank, of_bank = rows["train"][known].double(), [int(labels[i]) for i in known]
    for k in (4, 1):
        found = [naive_vote(bank, of_bank, query.double(), k, 0.1) for query in rows["test"]]
        assert final[f"top1_k{k}"] == pytest.approx(100 * np.mean(np.array(found) == labels[18:]))
    assert final["top1"] == final["top1_k4"]
    assert final["top5"] == 100


@pytest.mark.parametrize(("field", "value"), [("k", ()), ("k", (3, 3)), ("k", (0,)), ("temperature", 0.0)])
def test_a_protocol_names_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        KnnProtocol(**{field: value})  # type: ignore[arg-type]  # wrong on purpose


def test_settings_name_the_field_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^k: 0"):
        KnnSettings(k=0)
    with pytest.raises(ValueError, match=r"^temperature: 0\.0"):
        KnnSettings(temperature=0.0)
