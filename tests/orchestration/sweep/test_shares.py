"""Objectives at shares of the labels become an axis, with their published values; other sweeps stay as they are."""

from __future__ import annotations

from dataclasses import replace

from orchestration.sweep.cells import cells
from orchestration.sweep.result import Anchor
from orchestration.sweep.shares import by_share
from tests.made_up_sweeps import augment, shares


def test_shares_become_an_axis_and_keep_every_number() -> None:
    one = by_share(shares())
    assert one.axes[0].values == (1.0, 10.0, 100.0)
    (goal,) = one.objectives
    assert goal.title == "top-1"
    reached = {(cell.labels["method"], cell.labels["percent"]): cell.values(goal) for cell in cells(one)}
    assert reached == {
        (trial.labels["method"], title.split()[0]): (value,)
        for trial in shares().trials
        for title, value in trial.values.items()
    }


def test_published_values_move_to_their_share() -> None:
    anchor = Anchor({"method": "leoclr"}, "10 % labels top-1", 71.5, "table 2")
    (moved,) = by_share(replace(shares(), anchors=(anchor,))).anchors
    assert (moved.labels, moved.objective, moved.value) == ({"method": "leoclr", "percent": "10"}, "top-1", 71.5)


def test_other_sweeps_stay_as_they_are() -> None:
    two = replace(shares(), objectives=shares().objectives[:2])
    assert by_share(augment()) == augment()
    assert by_share(two) == two
