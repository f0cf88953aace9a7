"""The searches against a sort in float64, and against each other where rounding could make them differ."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from leoclr.evaluate import neighbors
from leoclr.evaluate.neighbors import Search, search

EVERY: tuple[Search, ...] = ("half", "single", "exact")


def rows(count: int, seed: int, dim: int = 24) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def near(count: int, seed: int, spread: float = 0.03) -> Tensor:
    """Return rows so near to one direction that half precision cannot tell them apart."""
    return rows(1, 99) + spread * rows(count, seed)


def cosines(bank_MF: Tensor, queries_NF: Tensor) -> list[list[float]]:
    """Return what the definition says, number by number."""
    bank, queries = bank_MF.double().tolist(), queries_NF.double().tolist()

    def one(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    return [[one(row, query) for row in bank] for query in queries]


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize("k", [1, 9, 500])  # 500 is more than the bank has
def test_neighbors_are_those_of_a_sort_of_cosines(how: Search, k: int) -> None:
    bank, queries = 3 * rows(200, 0), rows(7, 1)
    found = search(bank, queries, k=k, how=how)
    for of_query, places, values in zip(cosines(bank, queries), found.index_NK, found.similarity_NK, strict=True):
        expected = sorted(range(200), key=lambda place: -of_query[place])[:k]
        assert places.tolist() == expected
        torch.testing.assert_close(values.double(), torch.tensor(of_query).double()[expected], rtol=0, atol=3e-7)


@pytest.mark.parametrize("how", EVERY)
def test_how_the_work_is_cut_moves_nothing(how: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = rows(997, 0), rows(21, 1)
    whole = search(bank, queries, k=10, how=how)
    monkeypatch.setattr(neighbors, "BANK_BYTES", 4 * 24 * 320)  # 320 rows: blocks in groups, and a last one that is not
    monkeypatch.setitem(neighbors.SCORE_BYTES, "cpu", 4 * 320 * 5)
    monkeypatch.setitem(neighbors.ROW_BYTES, "cpu", 8 * 24 * 20 * 3)
    cut = search(bank, queries, k=10, how=how)
    assert torch.equal(cut.index_NK, whole.index_NK)
    torch.testing.assert_close(cut.similarity_NK, whole.similarity_NK, rtol=0, atol=2e-7)


@pytest.mark.parametrize("how", EVERY)
def test_of_equal_similarities_the_lower_place_comes_first(how: Search) -> None:
    bank = rows(3, 0)[torch.arange(600) % 3]  # 200 copies of each: more ties than there are spare candidates
    found = search(bank, bank[:3], k=150, how=how)
    expected = torch.stack([torch.arange(first, 450, 3) for first in range(3)])
    assert torch.equal(found.index_NK, expected)
    both = search(bank, bank[:1], k=250, how=how).index_NK[0].tolist()
    assert both[:200] == list(range(0, 600, 3))
    assert both[200:] == sorted(both[200:])


@pytest.mark.parametrize("spare", [0, 16, 128])
def test_half_precision_loses_no_neighbor_that_it_cannot_tell_apart(
    spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(neighbors.SPARE, "half", spare)
    bank, queries = torch.cat([rows(300, 0), near(300, 1)]), torch.cat([rows(10, 2), near(10, 3)])
    exact = search(bank, queries, k=20, how="exact")
    found = search(bank, queries, k=20, how="half")
    assert torch.equal(found.index_NK, exact.index_NK)
    assert torch.equal(found.similarity_NK, exact.similarity_NK)
    monkeypatch.setattr(neighbors, "_error", lambda *_: torch.full((20,), -2.0, dtype=torch.float64))
    lost = not torch.equal(search(bank, queries, k=20, how="half").index_NK, exact.index_NK)
    assert lost == (spare < 128)  # without the bound: so it is the bound that finds them


@pytest.mark.parametrize("kind", [rows, near])
def test_scores_in_half_precision_are_as_near_as_is_promised(kind: object) -> None:
    assert callable(kind)
    bank, queries = kind(200, 4), kind(50, 5)
    score_NJ, index_NJ = neighbors._scan(bank, queries, 200, "half")
    cosine_NM = torch.tensor(cosines(bank, queries), dtype=torch.float64)
    off_N = (score_NJ.double() - cosine_NM.gather(1, index_NJ)).abs().amax(dim=1)
    bound_N = neighbors._error(bank, queries)
    assert (off_N <= bound_N).all()
    assert float(bound_N.max()) < 2 * 2.0**-11 + 1e-5  # as two roundings of all values could be: it is no idle bound


def test_the_greatest_of_groups_hold_the_greatest_of_all() -> None:
    score_NB = rows(5, 6, dim=800).sort(dim=1).values  # the worst order: the greatest are neighbors
    values_NJ, index_NJ = neighbors._highest(score_NB, 20)
    assert torch.equal(values_NJ, score_NB.topk(20, dim=1).values)
    assert torch.equal(score_NB.gather(1, index_NJ), values_NJ)


@pytest.mark.parametrize("how", EVERY)
def test_a_network_that_diverged_has_neighbors_too(how: Search) -> None:
    bank = rows(300, 0)
    bank[7] = math.nan
    found = search(bank, bank[5:9], k=3, how=how)
    assert found.index_NK.shape == (4, 3)
    assert ((found.index_NK >= 0) & (found.index_NK < 300)).all()


@pytest.mark.parametrize("how", EVERY)
def test_rows_of_zeros_are_as_far_as_a_right_angle(how: Search) -> None:
    bank = torch.cat([torch.zeros(2, 24), -rows(1, 0), rows(1, 0)])
    found = search(bank, rows(1, 0), k=4, how=how)
    assert found.index_NK.tolist() == [[3, 0, 1, 2]]
    torch.testing.assert_close(found.similarity_NK, torch.tensor([[1.0, 0.0, 0.0, -1.0]]))
