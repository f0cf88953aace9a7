"""Two objectives at once: every point, and the Pareto front of those that no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestration.figure.style import COLORS, COLUMN, MAX_SIZE, Picture, canvas, look, short
from orchestration.sweep.cells import Cell, Summary, cells, summary, varied
from orchestration.sweep.compare import front
from orchestration.sweep.result import Axis, Objective, SweepResult
from orchestration.sweep.words import axis_title, show, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pareto(result: SweepResult) -> Picture:
    """Return the means of all points over both objectives: the first one upwards, the second one to the right."""
    y, x = result.objectives[:2]
    found, axes = cells(result), varied(result)
    best = [(cell, *at) for cell in front(found, (y, x)) if (at := _at(cell, x, y))]
    best.sort(key=lambda each: each[1].mean)
    on_front = {id(cell) for cell, _, _ in best}
    rest = [at for cell in found if id(cell) not in on_front and (at := _at(cell, x, y))]
    with look():
        figure = canvas(COLUMN, 2.6)
        panel = figure.subplots()
        _points(panel, rest)
        _front(panel, [(across, up) for _, across, up in best], post=x.direction == "min")
        panel.set_xlabel(f"{with_unit(x)}, {_arrow(x)}")
        panel.set_ylabel(f"{with_unit(y)}, {_arrow(y)}")
        panel.grid(axis="x")
        panel.margins(0.08)
        figure.legend(loc="outside upper center", ncols=2)
    listed = "; ".join(f"{_name(cell, axes)}: {show(b.mean, y.unit)} and {show(a.mean, x.unit)}" for cell, a, b in best)
    caption = (
        f"{y.title} against {x.title}, means of {len(best) + len(rest)} points. Pareto front: no other point is at "
        f"least as good in both and better in one; whiskers: sample standard deviation, where runs repeat. {listed}."
    )
    return Picture("pareto", result.title, caption, figure)


def _points(panel: Axes, points: Sequence[tuple[Summary, Summary]]) -> None:
    panel.plot(
        [across.mean for across, _ in points],
        [up.mean for _, up in points],
        "o",
        color=COLORS[3],
        markersize=3,
        markerfacecolor="white",
        markeredgewidth=0.7,
        label="dominated",
    )


def _front(panel: Axes, points: Sequence[tuple[Summary, Summary]], *, post: bool) -> None:
    """Draw the front as steps: between two of its points nothing better than the lesser of them is known."""
    at, up = [across.mean for across, _ in points], [each.mean for _, each in points]
    panel.step(at, up, where="post" if post else "pre", color=COLORS[0], linewidth=1)
    spreads = ([each.std or 0.0 for _, each in points], [across.std or 0.0 for across, _ in points])
    panel.errorbar(at, up, *spreads, fmt="D", color=COLORS[0], elinewidth=0.8, label="Pareto front")


def _arrow(objective: Objective) -> str:
    return "more is better" if objective.direction == "max" else "less is better"


def _at(cell: Cell, x: Objective, y: Objective) -> tuple[Summary, Summary] | None:
    across, up = summary(cell.values(x)), summary(cell.values(y))
    if across is None or up is None or max(abs(across.mean), abs(up.mean)) >= MAX_SIZE:
        return None
    return across, up


def _name(cell: Cell, axes: Sequence[Axis]) -> str:
    words = [f"{axis_title(axis.name)} {cell.labels[axis.name]}" for axis in axes if axis.name in cell.labels]
    return short(", ".join(words), 120) or "the point"
