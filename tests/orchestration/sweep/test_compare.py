"""Differences against scipy's paired test, the best against noise, effects and fronts against naive loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestration.sweep.cells import Cell, cells
from orchestration.sweep.compare import best, best_so_far, difference, front, main_effects
from tests.made_up_sweeps import TIME, TOP1, augment, factorial, search, trial

MEASURED = st.floats(0, 100).map(lambda value: round(value, 3))


def _cell(values: Sequence[float], *, seeds: Sequence[int] | None = None) -> Cell:
    numbered = zip(seeds or range(len(values)), values, strict=True)
    return Cell({}, {}, tuple(trial(seed, {}, seed=seed, values=value) for seed, value in numbered))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(MEASURED, MEASURED), min_size=2, max_size=8))
def test_a_difference_is_scipys_paired_interval(pairs: list[tuple[float, float]]) -> None:
    left, right = zip(*pairs, strict=True)
    gap = difference(_cell(left), _cell(right), TOP1)
    assert gap is not None
    assert gap.half is not None
    assert math.isclose(gap.mean, np.mean(np.subtract(left, right)), abs_tol=1e-9)
    if np.ptp(np.subtract(left, right)) > 1e-6:
        interval = stats.ttest_rel(left, right).confidence_interval(0.95)
        assert math.isclose(gap.half, (interval.high - interval.low) / 2, rel_tol=1e-6)


def test_a_difference_pairs_only_shared_seeds() -> None:
    gap = difference(_cell([1.0, 2.0, 90.0], seeds=[0, 1, 2]), _cell([0.0, 0.5], seeds=[0, 1]), TOP1)
    assert gap is not None
    assert (gap.mean, gap.n) == (1.25, 2)


def test_a_difference_without_shared_seeds_is_that_of_the_means() -> None:
    gap = difference(_cell([1.0, 2.0]), _cell([5.0], seeds=[9]), TOP1)
    assert gap is not None
    assert (gap.mean, gap.half, gap.n) == (-3.5, None, 0)
    assert difference(_cell([1.0]), _cell([]), TOP1) is None


@pytest.mark.parametrize(
    ("first", "second", "clear"),
    [
        ([80.0, 81.0, 82.0], [79.0, 80.1, 80.9], True),  # noisy, but one is better with every seed
        ([80.0, 84.0, 82.0], [81.0, 80.0, 82.5], False),
        ([90.0], [10.0], False),  # one run proves nothing
    ],
)
def test_the_best_is_marked_only_outside_the_noise(first: list[float], second: list[float], clear: bool) -> None:
    top = _cell(first)
    assert (best([_cell(second), top], TOP1) is top) == clear
    assert best([top], TOP1) is None


def test_the_best_mean_is_not_marked_where_the_shared_seeds_say_the_opposite() -> None:
    lucky = _cell([70.0, 71.0, 99.0])  # its third seed alone makes its mean the highest
    other = _cell([75.0, 76.2], seeds=[0, 1])
    assert best([lucky, other], TOP1) is None


def test_the_best_of_a_minimum_is_the_lowest() -> None:
    low, high = _cell([1.0, 2.0]), _cell([5.0, 6.1])
    lower = replace(TOP1, direction="min")
    assert best([high, low], lower) is low


def test_main_effects_are_the_means_over_all_other_axes() -> None:
    result = factorial()
    effects = main_effects(result, TOP1)
    for name, found in effects.items():
        for effect in found:
            mine = [t.values[TOP1.title] for t in result.trials if t.labels[name] == effect.label and t.values]
            assert effect.mean == pytest.approx(np.mean(mine))
            assert effect.std == pytest.approx(np.std(mine, ddof=1))
            assert (effect.n, effect.of) == (len(mine), 4)
    assert {effect.n for found in effects.values() for effect in found} == {3, 4}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_holds_what_nothing_dominates(scores: list[tuple[int, int]]) -> None:
    found = [
        Cell({"i": str(i)}, {}, (trial(i, {}, values={TOP1.title: float(a), TIME.title: float(b)}),))
        for i, (a, b) in enumerate(scores)
    ]
    expected = {
        str(i)
        for i, (a, b) in enumerate(scores)
        if not any((c > a and d <= b) or (c >= a and d < b) for c, d in scores)
    }
    assert {cell.labels["i"] for cell in front(found, (TOP1, TIME))} == expected


def test_the_best_so_far_never_falls_and_skips_stopped_trials() -> None:
    result = search()
    known = best_so_far(result, TOP1)
    assert [t.number for t, _, _ in known] == [t.number for t in result.trials if t.state == "done"]
    assert [until for _, _, until in known] == list(np.maximum.accumulate([value for _, value, _ in known]))
    falling = best_so_far(search(goals=2), TIME)
    assert [until for _, _, until in falling] == list(np.minimum.accumulate([value for _, value, _ in falling]))


def test_cells_of_a_failed_trial_have_the_other_seeds() -> None:
    cell = next(cell for cell in cells(augment()) if tuple(cell.labels.values()) == ("no color", "moco_v2"))
    assert sorted(cell.by_seed(TOP1)) == [0, 1]
