"""Bars for axes of categories: how far each arm falls from its baseline, methods side by side.

As figure 4 of LeOCLR (arXiv:2403.06813), which draws the decrease in top-1 accuracy. A bar starts at zero, as a change
does. Published falls are of another data set: a panel of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestration.figure.series import Series, changes, ours, published, published_changes, sources
from orchestration.figure.style import (
    CHARACTER,
    COLORS,
    COLUMN,
    GRAY,
    HATCHES,
    MAX_TICK,
    PAGE,
    Picture,
    canvas,
    legend_columns,
    letter,
    look,
    pretty,
    short,
    tick,
)
from orchestration.sweep.baselines import compared
from orchestration.sweep.cells import Summary, is_method, labels, same, summary, varied
from orchestration.sweep.result import Axis, Objective, SweepResult
from orchestration.sweep.words import axis_title, points, show, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

WIDTH = 0.8  # of the room between two labels, for all bars of one
FEW = 9  # bars that fit into a column
ROOM = 3  # labels: fewer leave room beside them, so that bars do not grow into walls
ALIKE = 3.0  # times: panels whose ranges differ by less share their vertical axis


def bars(result: SweepResult, objective: Objective, x: Axis) -> Picture:
    """Return the changes from the baseline; the values themselves for methods, and where no cell has a baseline."""
    names, theirs = labels(result, x), published(result, objective, x)
    total = ours(result, objective, x)
    shown = changes(result, objective, x) if len(compared(varied(result))[0]) == 1 and not is_method(x) else []
    relative, others = any(point.over for series in shown for point in series.points), theirs
    if relative:
        theirs, names = published_changes(theirs, names[0]), names[1:]
    else:
        shown = total
    order = [series.label for series in shown]
    theirs = [series for series in theirs if series.label in order]
    legend = [_name(series, total, others, objective) if relative else short(series.label) for series in shown]
    with look():
        wide = theirs or len(names) * len(shown) > FEW or _longest(names) > _fit(names, COLUMN)
        wide = wide or not legend_columns(legend, COLUMN, 3)
        width = PAGE if wide else COLUMN
        figure = canvas(width, 2.3)
        most = _fit(names, PAGE / 2 if theirs else width)
        panels = [panel for row in figure.subplots(1, 2 if theirs else 1, squeeze=False) for panel in row]
        for panel, drawn, absent in zip(panels, (shown, theirs), ("does not apply", "not published"), strict=False):
            _draw(panel, drawn, names, order=order, objective=objective, relative=relative, absent=absent)
            panel.set_xticks(range(len(names)), [tick(name, most) for name in names])
            panel.set_xlabel(axis_title(x.name))
        what = f"Change in {objective.title}" if relative else objective.title
        unit = points(objective.unit) if relative else objective.unit
        panels[0].set_ylabel(f"{what} ({unit})" if unit else what)
        if order != [""]:
            handles = [_patch(i) for i in range(len(legend))]
            figure.legend(handles, legend, loc="outside upper center", ncols=max(1, legend_columns(legend, width, 3)))
        if theirs:
            letter(panels[0], 0, "this sweep")
            letter(panels[1], 1, f"published: {short(sources(result, objective))}")
            _same_range(panels)
    return Picture(
        "bars", result.title, _caption(result, objective, x, shown, theirs=theirs, relative=relative), figure
    )


def _fit(names: Sequence[str], width: float) -> int:
    """Return how many characters of a label fit between its neighbors in a panel of `width` inches."""
    return max(4, min(MAX_TICK, int((width - 0.6) / max(ROOM, len(names)) / CHARACTER)))


def _longest(names: Sequence[str]) -> int:
    return max((min(len(word), MAX_TICK) for name in names for word in name.split()), default=0)


def _draw(
    panel: Axes,
    series: Sequence[Series],
    names: Sequence[str],
    *,
    order: list[str],
    objective: Objective,
    relative: bool,
    absent: str,
) -> None:
    """Draw a bar for each series at each name; a missing one says why, `absent` where its series has no such name."""
    width = WIDTH / max(1, len(order))
    for k, name in enumerate(names):
        found = {s.label: next((p for p in s.points if same(p.label, name)), None) for s in series}
        if not any(found.values()):
            _word(panel, k, absent, below=relative)
            continue
        for i, label in enumerate(order):
            at, point = k + (i - (len(order) - 1) / 2) * width, found.get(label)
            if point is None or point.over is None:
                _word(panel, at, point.word if point else absent, below=relative)
            else:
                _bar(panel, at, point.over, width=width * 0.94, style=_style(i))
                number = pretty(show(point.over.mean, objective.unit, sign=relative))
                _number(panel, at, point.over, number)
    panel.tick_params(axis="x", length=0)
    room = max(0.0, (ROOM - len(names)) / 2)
    panel.set_xlim(-0.5 - room, len(names) - 0.5 + room)
    panel.axhline(0, color="black", linewidth=0.6)
    panel.margins(y=0.14)


def _style(i: int) -> dict[str, Any]:
    hatch = HATCHES[(i + i // len(COLORS)) % len(HATCHES)]
    return {"facecolor": COLORS[i % len(COLORS)], "hatch": hatch, "edgecolor": "white"}


def _patch(i: int) -> Patch:
    from matplotlib.patches import Patch

    return Patch(**_style(i), linewidth=0)


def _bar(panel: Axes, at: float, over: Summary, *, width: float, style: dict[str, Any]) -> None:
    panel.bar(at, over.mean, width, linewidth=0, **style)
    if over.std is not None:
        panel.errorbar(at, over.mean, over.std, color="black", elinewidth=0.8, capsize=1.8)


def _number(panel: Axes, at: float, over: Summary, number: str) -> None:
    """Write a bar's number beyond its end."""
    low = over.mean < 0
    end = over.mean + (-1 if low else 1) * (over.std or 0.0)
    offset, side = ((0, -2), "top") if low else ((0, 2), "bottom")
    panel.annotate(number, (at, end), offset, textcoords="offset points", ha="center", va=side, fontsize=6)


def _word(panel: Axes, at: float, word: str, *, below: bool) -> None:
    """Write why there is no bar, where it would begin."""
    offset, side = ((0, -3), "top") if below else ((0, 3), "bottom")
    panel.annotate(
        word, (at, 0), offset, textcoords="offset points", rotation=90, ha="center", va=side, fontsize=6, color=GRAY
    )


def _same_range(panels: Sequence[Axes]) -> None:
    """Give both panels one range, if that leaves both legible."""
    ranges = [panel.get_ylim() for panel in panels]
    spans = [high - low for low, high in ranges]
    if max(spans) < ALIKE * min(spans):
        for panel in panels:
            panel.set_ylim(min(low for low, _ in ranges), max(high for _, high in ranges))


def _name(series: Series, total: Sequence[Series], others: Sequence[Series], objective: Objective) -> str:
    """Return the legend of a series with the values that its changes start from: ours, and the published one."""
    said = [short(series.label)]
    for word, found in (("baseline", total), ("published", others)):
        first = next((each.points[:1] for each in found if each.label == series.label), ())
        over = summary(first[0].values) if first else None
        if over is not None:
            said.append(f"{word} {pretty(spread(over.mean, over.std, objective.unit))}{_after(objective.unit)}")
    return ", ".join(said)


def _after(unit: str) -> str:
    return f" {unit}" if unit else ""


def _caption(
    result: SweepResult,
    objective: Objective,
    x: Axis,
    shown: Sequence[Series],
    *,
    theirs: Sequence[Series],
    relative: bool,
) -> str:
    counts = sorted({p.over.n for series in shown for p in series.points if p.over})
    n = f"n = {' to '.join(dict.fromkeys(map(str, (counts[0], counts[-1]))))}" if counts else "no runs"
    what = f"Change in {objective.title} from `{labels(result, x)[0]}`" if relative else f"{objective.title}"
    over = "differences paired by seed" if relative else "runs"
    bar = f"mean {over}, {n}" + (
        "; whiskers: sample standard deviation" if counts[-1:] > [1] else "; one run, no spread"
    )
    beside = f" (b) Published values ({sources(result, objective)}), for shape alone." if theirs else ""
    values = "; ".join(
        f"{series.label or axis_title(x.name)}: "
        + ", ".join(
            f"{p.label} {show(p.over.mean, objective.unit, sign=relative) if p.over else p.word}" for p in series.points
        )
        for series in shown
    )
    return f"{what}, by {axis_title(x.name)}. Bars: {bar}.{beside} Values: {values}."
