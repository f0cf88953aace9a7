"""What figures draw of a sweep with many points: as much work for each as with few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from orchestration.figure.pareto import pareto
from orchestration.figure.series import changes, ours, place, where
from orchestration.sweep.result import Axis, SweepResult
from tests.made_up_sweeps import TIME, TOP1, augment, search, trial
from tests.orchestration.sweep.calls import calls


def names(n: int) -> SweepResult:
    """Return a grid of one axis of `n` names over two seeds."""
    axis = Axis("crop", tuple(f"v{i}" for i in range(n)), "category")
    trials = tuple(
        trial(2 * i + seed, {"crop": f"v{i}"}, seed=seed, values=50.0 + i) for i in range(n) for seed in range(2)
    )
    return replace(augment(), axes=(axis,), trials=trials, anchors=())


def front(n: int) -> SweepResult:
    """Return a search in which every point is on the Pareto front."""
    result = search(n, goals=2)
    trials = (
        replace(t, state="done", values={TOP1.title: 50.0 + t.number, TIME.title: 1.0 + t.number})
        for t in result.trials
    )
    return replace(result, trials=tuple(trials))


@pytest.mark.parametrize("drawn", [changes, ours])
def test_the_work_of_a_series_grows_as_its_points(drawn: Callable[..., object]) -> None:
    few, many = (calls(partial(drawn, r, TOP1, r.axes[0])) for r in (names(50), names(200)))
    assert many < 4.5 * few


def test_the_work_of_a_front_grows_as_its_points() -> None:
    pareto(front(5))  # imports
    few, many = (calls(partial(pareto, r)) for r in (front(50), front(200)))
    assert many < 4.5 * few


def test_a_label_stands_at_its_own_place_before_that_of_an_equal_number() -> None:
    axis = Axis("size", ("0.2", "0.20"), "category")
    trials = tuple(trial(i, {"size": label}, values=50.0) for i, label in enumerate(("0.2", "0.20")))
    places = place(replace(augment(), axes=(axis,), trials=trials, anchors=()), axis)
    assert [where(places, label) for label in ("0.2", "0.20")] == list(places.at.values())
    assert where(places, "2e-1") == places.at["0.2"]


@pytest.mark.parametrize(
    ("values", "scale", "note"),
    [
        ([0.07, 0.1, 0.2, 0.3, 0.4, 0.5], "log", ""),  # on a linear axis 0.07 and 0.1 would touch
        ([0.08, 0.2, 0.4, 0.6, 0.8], "linear", ""),
        ([0.0, 0.05, 1.0], "linear", ""),  # 0 has no logarithm
        ([0.0, 0.9, 0.99, 0.999], "linear", "evenly spaced"),
    ],
)
def test_values_stand_where_their_labels_do_not_touch(values: list[float], scale: str, note: str) -> None:
    axis = Axis("t", tuple(map(str, values)), "linear")
    trials = tuple(trial(i, {"t": value}, values=50.0) for i, value in enumerate(values))
    places = place(replace(augment(), axes=(axis,), trials=trials, anchors=()), axis)
    assert (places.scale, places.note) == (scale, note)
