"""The importance of axes on a function whose variance is known, when it is refused, and that it repeats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.sweep.importance import MIN_TRIALS, _shares, importance, left_out
from orchestration.sweep.result import SweepResult
from tests.made_up_sweeps import TOP1, search


@pytest.fixture(scope="module")
def found() -> SweepResult:
    return search(MIN_TRIALS + 2)


def test_the_axis_that_decides_has_nearly_all_the_variance(
    found: SweepResult, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = importance(found, TOP1)
    assert not isinstance(shares, str)
    assert shares[0].axis == "temperature"
    assert shares[0].mean > 0.8
    assert sum(each.mean for each in shares) == pytest.approx(1.0)
    assert {each.axis for each in shares} == {"temperature", "lr", "crop"}
    assert shares[0].n == sum(trial.state == "done" for trial in found.trials)
    assert importance(found, TOP1) == shares
    assert capfd.readouterr() == ("", "")


def test_what_page_terminal_and_figure_ask_for_is_computed_once(found: SweepResult) -> None:
    importance(found, TOP1)
    before = _shares.cache_info()
    for _ in range(2):
        importance(replace(found, title="the same trials"), TOP1)
    assert _shares.cache_info().misses == before.misses


def test_too_few_trials_are_told_instead_of_ranked() -> None:
    assert importance(search(MIN_TRIALS - 1), TOP1) == (
        f"{MIN_TRIALS - 2} trials have a value of their own; importance needs {MIN_TRIALS} to be more than noise"
    )


def test_a_point_that_was_named_twice_counts_once(found: SweepResult) -> None:
    few = search(MIN_TRIALS - 1)
    again = tuple(replace(each, number=100 + each.number) for each in few.trials)
    assert importance(replace(few, trials=few.trials + again), TOP1) == importance(few, TOP1)
    twice = tuple(replace(each, number=100 + each.number) for each in found.trials)
    assert importance(replace(found, trials=found.trials + twice), TOP1) == importance(found, TOP1)


def test_equal_values_have_no_variance(found: SweepResult) -> None:
    same = tuple(replace(t, state="done", values={TOP1.title: 80.0}) for t in found.trials)
    assert "no variance" in str(importance(replace(found, trials=same), TOP1))


def test_a_conditional_axis_is_left_out_and_named(found: SweepResult) -> None:
    first = found.trials[0]
    without = replace(
        first,
        point={k: v for k, v in first.point.items() if k != "crop"},
        labels={k: v for k, v in first.labels.items() if k != "crop"},
    )
    result = replace(found, trials=(without, *found.trials[1:]))
    shares = importance(result, TOP1)
    assert not isinstance(shares, str)
    assert {each.axis for each in shares} == {"temperature", "lr"}
    assert left_out(result, shares) == ["crop"]
