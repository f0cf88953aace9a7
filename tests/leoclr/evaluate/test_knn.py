"""The vote against a loop over queries and neighbors, and against its own invariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from leoclr.evaluate import knn
from leoclr.evaluate.knn import KnnSettings, vote


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
    monkeypatch.setattr(knn, "CHUNK", 9)  # several chunks, the last one short
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


def test_settings_name_the_field_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^k: 0"):
        KnnSettings(k=0)
    with pytest.raises(ValueError, match=r"^temperature: 0\.0"):
        KnnSettings(temperature=0.0)
