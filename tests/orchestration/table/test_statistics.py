"""Intervals and p-values against scipy.stats, which this project does not call for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestration.table.statistics import gap

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)


def by_seed(numbers: list[float], start: int = 0) -> dict[str, float]:
    return {str(start + i): number for i, number in enumerate(numbers)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=8))
def test_shared_seeds_give_students_paired_t(pairs: list[tuple[float, float]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    differences = np.subtract(first, second)
    if np.std(differences) < 1e-9:
        return
    found, expected = gap(by_seed(first), by_seed(second)), stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert found is not None
    assert (found.n, found.paired) == (len(pairs), True)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-9)
    assert (found.low, found.high) == (pytest.approx(interval.low, rel=1e-6), pytest.approx(interval.high, rel=1e-6))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(values, values)
def test_seeds_apart_give_welchs_t(first: list[float], second: list[float]) -> None:
    if np.std(first) < 1e-6 or np.std(second) < 1e-6:
        return
    found = gap(by_seed(first), by_seed(second, start=100))
    expected = stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found is not None
    assert (found.n, found.paired) == (min(len(first), len(second)), False)
    assert (found.low, found.high) == (pytest.approx(interval.low, rel=1e-6), pytest.approx(interval.high, rel=1e-6))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


def test_a_hand_made_interval() -> None:
    """Differences 1, 2, 3: mean 2, s = 1, t of 2 degrees of freedom is 4.3027."""
    found = gap(by_seed([1.0, 2.0, 3.0]), by_seed([0.0, 0.0, 0.0]))
    assert found is not None
    assert found.high - found.mean == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert not found.clear


def test_a_seed_of_one_side_alone_is_left_out() -> None:
    found = gap({"0": 1.0, "1": 2.0, "7": 99.0}, {"0": 0.0, "1": 0.5, "8": -99.0})
    assert found == gap({"0": 1.0, "1": 2.0}, {"0": 0.0, "1": 0.5})


def test_one_run_a_side_says_nothing_and_a_constant_gap_everything() -> None:
    assert gap({"0": 1.0}, {"0": 2.0}) is None
    assert gap({"0": 1.0, "1": 2.0}, {"5": 2.0}) is None
    found = gap({"0": 1.0, "1": 2.0}, {"0": 0.0, "1": 1.0})
    assert found is not None
    assert (found.low, found.high, found.p, found.clear) == (1.0, 1.0, 0.0, True)
    same = gap({"0": 1.0, "1": 2.0}, {"0": 1.0, "1": 2.0})
    assert same is not None
    assert (same.p, same.clear) == (1.0, False)
