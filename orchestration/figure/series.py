"""What figures draw: a series for each color, a point for each place on the x axis, ours and published apart. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from orchestration.figure.style import MAX_SIZE
from orchestration.sweep.baselines import baselines
from orchestration.sweep.cells import Cell, Summary, cells, group_axis, labels, same, summary, varied
from orchestration.sweep.result import Anchor, Axis, Objective, SweepResult
from orchestration.sweep.words import number, show_value, state

CROWDED = 0.02  # of an axis's length: values that are closer are spaced evenly instead
TOUCHING = 0.08  # of it: where labels would touch, and would not on a logarithmic axis, that one is taken


@dataclass(frozen=True, slots=True)
class Point:
    """One place of a series."""

    label: str  # on the x axis
    over: Summary | None  # None: no number, and `word` says why
    values: tuple[float, ...]  # of the single runs
    word: str


@dataclass(frozen=True, slots=True)
class Series:
    """What has one color."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the labels of an axis stand."""

    at: dict[str, float]
    scale: str  # "linear" or "log" for Matplotlib
    note: str  # what the axis's title must add


def across(result: SweepResult) -> Axis | None:
    """Return the dimension that runs along x: of those that are not colors, the one with the most labels."""
    axes = varied(result)
    group = group_axis(axes)
    rest = [axis for axis in axes if axis is not group] or list(axes)
    numeric = [axis for axis in rest if axis.scale != "category"]
    return max(numeric or rest, key=lambda axis: len(labels(result, axis)), default=None)


def colored(result: SweepResult, x: Axis) -> Axis | None:
    """Return the dimension of the colors: methods, else a category, else the other numbers."""
    rest = [axis for axis in varied(result) if axis.name != x.name]
    return group_axis(rest) or next(iter(rest), None)


def ours(result: SweepResult, objective: Objective, x: Axis) -> list[Series]:
    """Return what trials reached."""
    return _series(result, x, cells(result), lambda cell: cell.values(objective))


def changes(result: SweepResult, objective: Objective, x: Axis) -> list[Series]:
    """Return the changes from the baseline, by seed where it shares seeds; without the baselines themselves."""
    found = cells(result)
    bases = baselines(result, found)

    def from_baseline(cell: Cell) -> tuple[float, ...]:
        other = bases.of(cell)
        if other is None:
            return ()
        mine, theirs = cell.by_seed(objective), other.by_seed(objective)
        if pairs := tuple(mine[seed] - theirs[seed] for seed in mine if seed in theirs):
            return pairs
        left, right = summary(cell.values(objective)), summary(other.values(objective))
        return (left.mean - right.mean,) if left and right else ()

    first = labels(result, x)[0]
    series = _series(result, x, found, from_baseline)
    return [Series(each.label, tuple(p for p in each.points if p.label != first)) for each in series]


def _series(
    result: SweepResult, x: Axis, found: Sequence[Cell], reached: Callable[[Cell], tuple[float, ...]]
) -> list[Series]:
    group = colored(result, x)
    names = labels(result, group) if group else [""]
    return [
        Series(
            name,
            tuple(
                _point(cell.labels[x.name], reached(cell), cell)
                for cell in found
                if x.name in cell.labels and (group is None or cell.labels.get(group.name) == name)
            ),
        )
        for name in names
    ]


def _point(label: str, values: Sequence[float], cell: Cell) -> Point:
    drawn = tuple(value for value in values if abs(value) < MAX_SIZE)
    word = state(cell.trials) if cell.trials else "not tried"
    return Point(label, summary(drawn), drawn, word if len(drawn) == len(values) else "off the scale")


def published(result: SweepResult, objective: Objective, x: Axis) -> list[Series]:
    """Return the published values along x. Those of one of our series are labelled as it is."""
    group = colored(result, x)
    names = labels(result, group) if group else []
    series: dict[str, list[Point]] = {}
    for anchor in result.anchors:
        if anchor.objective == objective.title and x.name in anchor.labels and abs(anchor.value or 0.0) < MAX_SIZE:
            known = () if anchor.value is None else (anchor.value,)
            point = Point(anchor.labels[x.name], summary(known), known, "" if known else "diverged")
            series.setdefault(_owner(anchor, x, group, names), []).append(point)
    return [Series(label, tuple(points)) for label, points in series.items()]


def _owner(anchor: Anchor, x: Axis, group: Axis | None, names: Sequence[str]) -> str:
    """Return the label of our series that an anchor belongs to, else its own labels."""
    if group is not None and group.name in anchor.labels:
        own = anchor.labels[group.name]
        return next((name for name in names if same(name, own)), own)
    return ", ".join(label for name, label in anchor.labels.items() if name != x.name)


def published_changes(series: Sequence[Series], first: str) -> list[Series]:
    """Return published values as changes from the published baseline; series without one are left out."""
    found = []
    for each in series:
        base = next((p.over.mean for p in each.points if same(p.label, first) and p.over), None)
        points = [p for p in each.points if not same(p.label, first) and p.over]
        if base is not None and points:
            less = [(p.label, p.over.mean - base) for p in points if p.over]
            found.append(Series(each.label, tuple(Point(label, summary([d]), (d,), "") for label, d in less)))
    return found


def sources(result: SweepResult, objective: Objective) -> str:
    """Return where the published values are from, each work once: `arXiv:2403.06813, table 6 and figure 4`."""
    works: dict[str, dict[str, None]] = {}
    for anchor in result.anchors:
        if anchor.objective == objective.title:
            work, _, part = anchor.source.partition(", ")
            works.setdefault(work, {}).update({part: None} if part else {})
    return "; ".join(", ".join(filter(None, [work, " and ".join(parts)])) for work, parts in works.items())


def place(result: SweepResult, x: Axis, more: Sequence[str] = ()) -> Places:
    """Return where labels stand: on the axis's own scale, or evenly spaced where that would crowd or hide some."""
    values: dict[str, float | None] = {}
    for trial in result.trials:
        if x.name in trial.labels or x.name in trial.point:
            label = trial.labels.get(x.name, show_value(trial.point.get(x.name)))
            values.setdefault(label, _first(number(trial.point.get(x.name)), number(label)))
    for label in more:
        if not any(same(label, each) for each in values):
            values[label] = number(label)
    known = {label: value for label, value in values.items() if value is not None and abs(value) < MAX_SIZE}
    order = sorted(known, key=lambda label: known[label]) + [label for label in values if label not in known]
    even = Places({label: float(i) for i, label in enumerate(order)}, "linear", "evenly spaced")
    if len(known) < len(values):
        return even
    scale: Literal["linear", "log"] = "log" if x.scale == "log" and _closest(known, "log") else "linear"
    if scale == "linear" and _closest(known, "linear") < TOUCHING <= _closest(known, "log"):
        scale = "log"
    if _closest(known, scale) < CROWDED:
        return even
    return Places({label: known[label] for label in order}, scale, "")


def _closest(known: Mapping[str, float], scale: Literal["linear", "log"]) -> float:
    """Return the least distance of two values as a share of the axis; 1 for a single one, 0 where they have no log."""
    if scale == "log" and min(known.values()) <= 0:
        return 0.0
    sizes = sorted(math.log(value) if scale == "log" else value for value in set(known.values()))
    return min((b - a for a, b in pairwise(sizes)), default=1.0) / ((sizes[-1] - sizes[0]) or 1.0)


def _first(value: float | None, other: float | None) -> float | None:
    return other if value is None else value


def where(places: Places, label: str) -> float | None:
    """Return where a label stands, as text or as a number."""
    if label in places.at:
        return places.at[label]
    return next((at for each, at in places.at.items() if same(each, label)), None)
