"""Curves for axes of numbers, with the published curve beside them, and one panel an axis where a grid has many.

Published accuracies are of another data set, so that their level means nothing here: they have a panel and a vertical
axis of their own, over the same x. What compares is the shape: where the top is, on which side it falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestration.figure.series import Places, Point, Series, colored, ours, place, published, sources, where
from orchestration.figure.style import (
    COLORS,
    COLUMN,
    FAINT,
    GRAY,
    LINES,
    MARKERS,
    MAX_SIZE,
    PAGE,
    Picture,
    canvas,
    legend_columns,
    letter,
    look,
    short,
    tick,
)
from orchestration.sweep.cells import cells, labels, summary, varied
from orchestration.sweep.compare import Effect, main_effects
from orchestration.sweep.result import Axis, Objective, SweepResult
from orchestration.sweep.words import axis_title, show, spread, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

BAND = 0.18  # opacity
MOST_PANELS = 4  # in a row
ABSENT = ("x", "+", "1", "2")  # marks of places without a number, by reason
STEP = 0.06  # of a panel's height, between two of them


def curve(result: SweepResult, objective: Objective, x: Axis) -> Picture:
    """Return the objective along an axis of numbers: mean and band of one sample standard deviation."""
    mine, theirs = ours(result, objective, x), published(result, objective, x)
    places = place(result, x, [point.label for series in theirs for point in series.points])
    order = list(dict.fromkeys(series.label for series in (*mine, *theirs)))
    with look():
        figure = canvas(PAGE if theirs else COLUMN, 2.4)
        panels = [panel for row in figure.subplots(1, 2 if theirs else 1, squeeze=False, sharex=True) for panel in row]
        for panel, drawn in zip(panels, (mine, theirs), strict=False):
            for series in drawn:
                _line(panel, series, places, order.index(series.label))
            _x_axis(panel, places, x)
        panels[0].set_ylabel(with_unit(objective))
        handles = {line.get_label(): line for panel in panels for line in panel.get_lines()}
        named = [(handles[label], short(_prefix(result, x) + label)) for label in order if label in handles]
        named, marks = named if len(order) > 1 else [], dict[str, str]()
        for panel, drawn in zip(panels, (mine, theirs), strict=False):
            _missing(panel, drawn, places, order, marks)
        named += [(_mark(mark), word) for word, mark in marks.items()]
        if named:
            ncols = max(1, legend_columns([said for _, said in named], PAGE if theirs else COLUMN, 4))
            figure.legend(*zip(*named, strict=True), loc="outside upper center", ncols=ncols)
        if theirs:
            letter(panels[0], 0, "this sweep")
            letter(panels[1], 1, f"published: {short(sources(result, objective))}")
            panels[1].set_ylabel(f"published {with_unit(objective)}")
    return Picture("curve", result.title, _caption(result, objective, x, mine, theirs=theirs), figure)


def _prefix(result: SweepResult, x: Axis) -> str:
    """A bare number in a legend does not say what it is."""
    group = colored(result, x)
    return "" if group is None or group.scale == "category" else f"{axis_title(group.name)} "


def _line(panel: Axes, series: Series, places: Places, i: int) -> None:
    """Draw a series; the line breaks where a number is missing."""
    known = [(at, p.over) for p in series.points if (at := where(places, p.label)) is not None]
    known.sort(key=lambda pair: pair[0])
    if not any(over for _, over in known):
        return
    color, dashes = COLORS[i % len(COLORS)], LINES[i % len(LINES)]
    places_x = [each for each, _ in known]
    panel.plot(
        places_x,
        [over.mean if over else math.nan for _, over in known],
        dashes,
        color=color,
        marker=MARKERS[i % len(MARKERS)],
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=series.label,
        zorder=3,
    )
    if any(over and over.std is not None for _, over in known):
        low = [over.mean - (over.std or 0.0) if over else math.nan for _, over in known]
        high = [over.mean + (over.std or 0.0) if over else math.nan for _, over in known]
        panel.fill_between(places_x, low, high, color=color, alpha=BAND, linewidth=0)


def _missing(
    panel: Axes, series: Sequence[Series], places: Places, order: Sequence[str], marks: dict[str, str]
) -> None:
    """Mark the places without a number at the foot of the panel, in the color of their series.

    `marks` has the mark of each word that says why; new words join it.
    """
    height: dict[float, int] = {}  # marks that stand at a place
    for each in series:
        for point in each.points:
            if point.over is None and (at := where(places, point.label)) is not None:
                mark = marks.setdefault(point.word, ABSENT[len(marks) % len(ABSENT)])
                color = COLORS[order.index(each.label) % len(COLORS)]
                height[at] = height.get(at, 0) + 1
                foot = panel.get_xaxis_transform()
                panel.plot([at], [height[at] * STEP], mark, color=color, transform=foot, label="_missing")
    if height:
        low, high = panel.get_ylim()
        below = low - (high - low) * STEP * (max(height.values()) + 0.5)
        panel.axhspan(below, low, color=FAINT, alpha=0.6, linewidth=0, zorder=0)  # these are no values
        panel.set_ylim(below, high)


def _mark(mark: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=GRAY, marker=mark, linestyle="")


def _x_axis(panel: Axes, places: Places, x: Axis) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    panel.set_xscale(places.scale)
    title = axis_title(x.name)
    names = [label.removesuffix("%").strip() if title.endswith("(%)") else label for label in places.at]
    panel.set_xticks(list(places.at.values()), [tick(name) for name in names])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.06, y=0.12)
    panel.set_xlabel(f"{title}, {places.note}" if places.note else title)


def _caption(
    result: SweepResult, objective: Objective, x: Axis, mine: Sequence[Series], *, theirs: Sequence[Series]
) -> str:
    counts = sorted({p.over.n for series in mine for p in series.points if p.over})
    n = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else "0"
    band = "; bands: one sample standard deviation" if counts[-1:] > [1] else "; one run a point, no spread"
    beside = ""
    if theirs:
        beside = f" (b) Published ({sources(result, objective)}), on a vertical axis of its own: only shapes compare."
    values = "; ".join(
        f"{series.label or objective.title}: " + ", ".join(f"{p.label} {_said(p, objective)}" for p in series.points)
        for series in mine
    )
    return f"{objective.title} by {axis_title(x.name)}. Means, n = {n}{band}.{beside} Values: {values}."


def _said(point: Point, objective: Objective) -> str:
    return spread(point.over.mean, point.over.std, objective.unit) if point.over else point.word


def effects(result: SweepResult, objective: Objective) -> Picture:
    """Return the main effects of a grid of many axes: a panel each, one vertical axis for all."""
    found, axes = main_effects(result, objective), varied(result)
    columns = min(MOST_PANELS, len(axes))
    rows = -(-len(axes) // columns)
    with look():
        figure = canvas(PAGE if columns > 2 else COLUMN, 2.2 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        panels = [panel for row in grid for panel in row]
        for panel, axis in zip(panels, axes, strict=False):
            _marginal(panel, found[axis.name], axis, result, objective=objective)
        for panel in panels[len(axes) :]:
            panel.set_visible(False)
        for row in grid:
            row[0].set_ylabel(with_unit(objective))
    said = "; ".join(
        f"{axis_title(name)}: "
        + ", ".join(f"{e.label} {show(e.mean, objective.unit)}" for e in each if e.mean is not None)
        for name, each in found.items()
    )
    caption = (
        f"Main effects on {objective.title}. Large markers: mean of all cells that share a value, whiskers: their "
        f"sample standard deviation; small markers: the cells. Values: {said}."
    )
    return Picture("effects", result.title, caption, figure)


def _marginal(panel: Axes, found: Sequence[Effect], axis: Axis, result: SweepResult, *, objective: Objective) -> None:
    names = labels(result, axis)
    for cell in cells(result):
        over = summary(cell.values(objective))
        if over and abs(over.mean) < MAX_SIZE and axis.name in cell.labels:
            panel.plot([names.index(cell.labels[axis.name]) + 0.12], [over.mean], ".", color=COLORS[3], markersize=2.5)
    known = [(i, e.mean, e.std or 0.0) for i, e in enumerate(found) if e.mean is not None and abs(e.mean) < MAX_SIZE]
    if known:
        at, means, spreads = zip(*known, strict=True)
        panel.errorbar(
            at, means, spreads, fmt="-o", color=COLORS[0], elinewidth=0.8, capsize=2, markeredgecolor="white"
        )
    counted = [f"\n({e.n} of {e.of} cells)" if e.n < e.of else "" for e in found]
    panel.set_xticks(range(len(names)), [tick(name) + count for name, count in zip(names, counted, strict=True)])
    panel.set_xlim(-0.4, len(names) - 0.6)
    panel.margins(y=0.14)
    panel.set_xlabel(axis_title(axis.name))
