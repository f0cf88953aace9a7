"""Cells against numpy, their order, what nobody tried, baselines, data sets apart, published values by label."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.sweep.baselines import baselines
from orchestration.sweep.cells import (
    anchors_of,
    cells,
    dimensions,
    fixed,
    labels,
    parts,
    reached,
    summary,
    varied,
)
from orchestration.sweep.result import MEMBER, Axis, State, SweepResult
from tests.made_up_sweeps import TOP1, augment, conditional, data_sets, factorial, momentum, search, trial


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_a_summary_is_numpys_mean_and_sample_deviation(values: list[float]) -> None:
    over = summary(values)
    assert over is not None
    assert over.std is not None
    assert over.n == len(values)
    assert math.isclose(over.mean, np.mean(values), rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(over.std, np.std(values, ddof=1), rel_tol=1e-6, abs_tol=1e-6)


def test_a_summary_of_one_has_no_spread_and_of_none_nothing() -> None:
    one, huge = summary([3.0]), summary([1.7e308, 1.7e308])
    assert one is not None
    assert one.std is None
    assert summary([]) is None
    assert huge is not None
    assert huge.mean == 1.7e308


def test_cells_average_over_seeds_and_keep_the_order_of_the_axes() -> None:
    found = cells(augment())
    assert [tuple(cell.labels.values()) for cell in found][:3] == [
        ("baseline", "leoclr"),
        ("baseline", "moco_v2"),
        ("no color", "leoclr"),
    ]
    assert [len(cell.values(TOP1)) for cell in found] == [3, 3, 3, 2, 3, 3]


def test_only_a_trial_that_ended_counts() -> None:
    stopped = trial(0, {"a": 1}, state="stopped", values=99.0)
    infinite = trial(1, {"a": 1}, values=math.inf)
    result = replace(momentum(), axes=(Axis("a", (1,), "linear"),), trials=(stopped, infinite), anchors=())
    (cell,) = cells(result)
    assert cell.values(TOP1) == ()


def test_a_point_of_a_grid_that_nobody_tried_is_a_cell_without_trials() -> None:
    result = augment()
    short = replace(result, trials=tuple(t for t in result.trials if t.labels != result.trials[-1].labels))
    found = cells(short)
    assert len(found) == 6
    assert [cell.labels for cell in found if not cell.trials] == [result.trials[-1].labels]


def test_points_of_a_search_with_one_rounded_label_stay_apart() -> None:
    axis = (Axis("lr", None, "log"),)
    two = [trial(i, {"lr": value}, values=80.0) for i, value in enumerate((0.1, 0.1000001))]
    same = tuple(replace(each, labels={"lr": "0.1"}) for each in two)
    assert len(cells(replace(search(), axes=axis, trials=same))) == 2


def test_a_point_that_a_search_names_twice_is_one_value() -> None:
    axes = (Axis("crop", ("small", "large"), "category"), Axis("queue", None, "linear"))
    points = [{"crop": "small", "queue": 64}] * 3 + [{"crop": "small", "queue": 128}]
    states: tuple[State, ...] = ("failed", "done", "done", "done")
    trials = tuple(
        trial(i, point, state=state, values=90.1) for i, (point, state) in enumerate(zip(points, states, strict=True))
    )
    first, second = cells(replace(search(), axes=axes, trials=trials))
    assert (len(first.trials), first.values(TOP1), second.values(TOP1)) == (3, (90.1,), (90.1,))


def test_equal_values_of_several_seeds_are_several_values() -> None:
    trials = tuple(trial(i, {"crop": "small"}, seed=i, values=90.1) for i in range(3))
    (cell,) = cells(replace(augment(), axes=(Axis("crop", ("small",), "category"),), trials=trials))
    assert cell.values(TOP1) == (90.1,) * 3


def test_members_that_end_at_one_point_after_different_ones_are_two_points() -> None:
    axes, last = (Axis("lr", (0.1, 0.2), "category"),), {"lr": 0.2}
    lineages = (({"lr": 0.1},), ({"lr": 0.2},), ({"lr": 0.1},))
    trials = tuple(replace(trial(i, last, values=80.0 + i % 2), before=each) for i, each in enumerate(lineages))
    found = cells(replace(search(), axes=axes, trials=trials))
    assert [[each.number for each in cell.trials] for cell in found] == [[0, 2], [1]]
    assert [cell.values(TOP1) for cell in found] == [(80.0,), (81.0,)]


def test_the_place_in_a_population_makes_no_other_point() -> None:
    twins = [replace(trial(i, {"lr": 0.2}, values=80.0), before=({"lr": 0.1},)) for i in range(2)]
    named = [replace(each, labels={**each.labels, MEMBER: str(each.number)}) for each in twins]
    assert [each.number for each, _ in reached(named, TOP1)] == [0]
    result = replace(search(), trials=tuple(named))
    assert MEMBER not in [axis.name for axis in dimensions(result)]
    assert [[each.number for each in cell.trials] for cell in cells(result)] == [[0, 1]]


def test_listed_numbers_are_a_scale_without_a_baseline() -> None:
    result = momentum()
    assert dimensions(result)[0].scale == "linear"
    assert labels(result, result.axes[0]) == ["0", "0.9", "0.99", "0.999"]
    found = cells(result)
    assert all(baselines(result, found).of(cell) is None for cell in found)


def test_a_baseline_has_the_first_category_and_the_same_method() -> None:
    result = augment()
    found = cells(result)
    bases = [baselines(result, found).of(cell) for cell in found]
    assert [base and base.labels["method"] for base in bases] == [None, None, "leoclr", "moco_v2", "leoclr", "moco_v2"]
    assert {base.labels["augmentation"] for base in bases if base} == {"baseline"}


def test_a_baseline_of_several_categories_has_all_their_first_labels_and_the_same_number() -> None:
    result = factorial()
    found = cells(result)
    base = baselines(result, found).of(found[-1])
    assert base is not None
    assert base.labels == {"original view": "augmented", "terms": "sum", "queue_size": "1024"}


def test_a_baseline_may_lack_an_axis_of_what_it_is_compared_with() -> None:
    found = cells(conditional())
    bases = baselines(conditional(), found)
    assert [bases.has(cell) for cell in found] == [True, False, False, False]
    assert [bases.of(cell) for cell in found] == [None, found[0], found[0], found[0]]


def test_a_point_without_a_counterpart_is_no_baseline() -> None:
    points = [{"view": "crop", "lr": 0.03}, {"view": "whole", "lr": 0.1}]
    trials = tuple(trial(i, point, values=80.0) for i, point in enumerate(points))
    axes = (Axis("view", ("whole", "crop"), "category"), Axis("lr", None, "log"))
    result = SweepResult("s", "S", axes, (TOP1,), (), trials, "random")
    found = cells(result)
    bases = baselines(result, found)
    assert {cell.labels["view"]: (bases.has(cell), bases.of(cell)) for cell in found} == {
        "whole": (True, None),
        "crop": (False, None),
    }


def test_data_sets_are_taken_apart_with_their_published_values() -> None:
    stl, cifar = parts(data_sets())
    assert [len(part.trials) for part in (stl, cifar)] == [4, 4]
    assert [len(part.anchors) for part in (stl, cifar)] == [1, 0]
    assert [axis.name for axis in varied(stl)] == ["method"]
    assert (stl.name, cifar.title) == ("ablation-backbone-stl10", "ResNet-18: cifar10")


def test_what_all_trials_share_is_no_dimension_of_the_table() -> None:
    result = momentum()
    shared = replace(result, trials=tuple(replace(t, labels={**t.labels, "method": "moco_v2"}) for t in result.trials))
    assert [axis.name for axis in varied(shared)] == ["momentum"]
    assert fixed(shared) == {"method": "moco_v2"}


@pytest.mark.parametrize(("label", "n"), [("0.9", 1), ("0.90", 1), ("9e-1", 1), ("0.91", 0)])
def test_a_published_value_finds_its_cell_by_number(label: str, n: int) -> None:
    result = momentum()
    anchor = replace(result.anchors[0], labels={"momentum": label})
    assert sum(len(anchors_of(cell, TOP1, [anchor])) for cell in cells(result)) == n
