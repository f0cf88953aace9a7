"""Trials become cells: what one point reached over its seeds, and how far from its baseline. Pure.

Numbers of different data sets or protocols are never ranked against each other: `parts` takes them apart first.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.sweep.result import MEMBER, SEED, Anchor, Axis, Objective, SweepResult, Trial
from orchestration.sweep.words import number, show_value, slug

APART = frozenset({"dataset", "protocol"})  # last part of an axis's name: across its values, numbers do not compare
METHOD = "method"
GRID = "grid"
MIN_SCALE = 3  # numbers
MAX_GRID = 2000  # cells; a larger grid is not searched for points that nobody tried

Key = tuple[tuple[str | None, str], ...]  # by dimension: label, and exact values where labels do not tell


@dataclass(frozen=True, slots=True)
class Cell:
    """All trials of one point."""

    labels: Mapping[str, str]  # by dimension; one that does not apply is absent
    point: Mapping[str, object]
    trials: tuple[Trial, ...]  # empty: nobody tried it

    def values(self, objective: Objective) -> tuple[float, ...]:
        """Return what its finished trials reached, once for those that are one."""
        return tuple(value for _, value in reached(self.trials, objective))

    def by_seed(self, objective: Objective) -> dict[int, float]:
        """Return what they reached, by seed; without those that have none of their own."""
        pairs = ((trial.seed, result_of(trial, objective)) for trial in self.trials)
        return {seed: value for seed, value in pairs if seed is not None and value is not None}


@dataclass(frozen=True, slots=True)
class Summary:
    """Some values as one."""

    mean: float
    std: float | None  # sample standard deviation (n - 1); None where n < 2
    n: int


def result_of(trial: Trial, objective: Objective) -> float | None:
    """Return what a trial reached; None unless it ran to its end and the number is finite."""
    value = trial.values.get(objective.title) if trial.state == "done" else None
    return value if value is not None and math.isfinite(value) else None


def reached(trials: Iterable[Trial], objective: Objective) -> list[tuple[Trial, float]]:
    """Return the trials that have a number, with it.

    A point that a search names twice is computed once and reused: the second trial is no other run, and left out.
    """
    ended = [(trial, value) for trial in trials if (value := result_of(trial, objective)) is not None]
    if len(ended) < 2:
        return ended
    first: dict[object, tuple[Trial, float]] = {}
    for trial, value in ended:
        first.setdefault(trial.number if trial.seed is not None else _computed(trial), (trial, value))
    return list(first.values())


def _computed(trial: Trial) -> str:
    """Return what decides the numbers of a trial that has all seeds."""
    labels = {name: label for name, label in trial.labels.items() if name not in (SEED, MEMBER)}
    return repr([sorted(each.items()) for each in (labels, trial.point, *trial.before)])


def summary(values: Sequence[float]) -> Summary | None:
    """Return mean and sample standard deviation; None for no values. In exact arithmetic: sums do not overflow."""
    if not values:
        return None
    try:
        std = statistics.stdev(values) if len(values) > 1 else None
    except OverflowError:
        std = math.inf
    return Summary(statistics.mean(values), std, len(values))


def dimensions(result: SweepResult) -> tuple[Axis, ...]:
    """Return the axes, then what else arms differ in, such as the base pipeline's methods; no seed, no member.

    A category whose values are numbers, at least three, is a scale: nothing makes the first one a baseline.
    """
    known = [axis.name for axis in result.axes]
    more = dict.fromkeys(name for trial in result.trials for name in trial.labels)
    axes = tuple(replace(axis, scale="linear") if _is_scale(axis) else axis for axis in result.axes)
    return axes + tuple(Axis(name, None, "category") for name in more if name not in (*known, SEED, MEMBER))


def _is_scale(axis: Axis) -> bool:
    values = axis.values or ()
    return axis.scale == "category" and len(values) >= MIN_SCALE and all(number(value) is not None for value in values)


def varied(result: SweepResult) -> tuple[Axis, ...]:
    """Return the dimensions in which at least two cells differ."""
    found = cells(result)
    return tuple(axis for axis in dimensions(result) if len({cell.labels.get(axis.name) for cell in found}) > 1)


def fixed(result: SweepResult) -> dict[str, str]:
    """Return label by dimension, of those that all cells share."""
    names = {axis.name for axis in varied(result)}
    first = cells(result)[:1]
    return {name: label for cell in first for name, label in cell.labels.items() if name not in names}


def parts(result: SweepResult) -> tuple[SweepResult, ...]:
    """Return the result of each data set and protocol by itself; the whole where there is but one."""
    apart = [axis for axis in varied(result) if axis.name.rpartition(".")[2] in APART]
    if not apart:
        return (result,)
    axis = apart[0]
    return tuple(part for label in labels(result, axis) for part in parts(_part(result, axis, label)))


def _part(result: SweepResult, axis: Axis, label: str) -> SweepResult:
    name = axis.name
    mine = [trial for trial in result.trials if label_of(trial, axis) == label]
    return replace(
        result,
        name=f"{result.name}-{slug(label)}",
        title=f"{result.title}: {label}",
        axes=tuple(each for each in result.axes if each.name != name),
        anchors=tuple(
            replace(anchor, labels=_without(anchor.labels, name))
            for anchor in result.anchors
            if name not in anchor.labels or same(anchor.labels[name], label)
        ),
        trials=tuple(
            replace(
                trial, labels=_without(trial.labels, name), point={k: v for k, v in trial.point.items() if k != name}
            )
            for trial in mine
        ),
    )


def _without(labels: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: label for key, label in labels.items() if key != name}


def label_of(trial: Trial, axis: Axis) -> str | None:
    """Return the label of a trial on an axis; None where the axis does not apply to it."""
    if axis.name in trial.labels:
        return trial.labels[axis.name]
    return show_value(trial.point[axis.name]) if axis.name in trial.point else None


def labels(result: SweepResult, axis: Axis) -> list[str]:
    """Return the labels on an axis: in the order of its values, numbers of other axes by size, else as they come."""
    seen: dict[str, object] = {}
    for trial in result.trials:
        if (label := label_of(trial, axis)) is not None:
            seen.setdefault(label, trial.point.get(axis.name))
    values = axis.values or ()
    order = {repr(values[i]): i for i in reversed(range(len(values)))}
    names = {str(values[i]): i for i in reversed(range(len(values)))}

    def place(label: str) -> float:
        if (at := order.get(repr(seen[label]), names.get(label))) is not None:
            return at
        size = number(seen[label]) if axis.scale != "category" else None
        return math.inf if size is None or axis.values else size

    return sorted(seen, key=place)


def cells(result: SweepResult) -> list[Cell]:
    """Return the cells, in the order of the dimensions' labels; those of a grid that nobody tried among them."""
    axes = dimensions(result)
    groups: dict[Key, list[Trial]] = {}
    for trial in result.trials:
        groups.setdefault(_key(trial, axes), []).append(trial)
    order = [{label: i for i, label in enumerate(labels(result, axis))} for axis in axes]
    if result.search == GRID:
        groups |= {key: [] for key in _untried(groups, order)}

    def place(key: Key) -> list[int]:
        return [-1 if label is None else ranks[label] for (label, _), ranks in zip(key, order, strict=True)]

    known = _values(result.trials, axes)
    return [_cell(key, axes, groups[key], known) for key in sorted(groups, key=place)]


def _key(trial: Trial, axes: Sequence[Axis]) -> Key:
    """Two points of a search may have one label, rounded, and members of a population may end at one: values tell."""
    return tuple((label_of(trial, axis), _exact(trial, axis)) for axis in axes)


def _exact(trial: Trial, axis: Axis) -> str:
    if not trial.before and (axis.values or axis.scale == "category"):
        return ""
    return repr([point.get(axis.name) for point in (*trial.before, trial.point)])


def _values(trials: Sequence[Trial], axes: Sequence[Axis]) -> dict[tuple[str, str | None], object]:
    """Return the value by axis and label."""
    return {
        (axis.name, label_of(trial, axis)): trial.point[axis.name]
        for trial in trials
        for axis in axes
        if axis.name in trial.point
    }


def _untried(groups: Mapping[Key, object], order: Sequence[Mapping[str, int]]) -> list[Key]:
    """Return the missing points of a grid; none where an axis is conditional, since then the grid has no full shape."""
    conditional = any(label is None or exact for key in groups for label, exact in key)
    if conditional or math.prod(map(len, order)) > MAX_GRID:
        return []
    full = (tuple((label, "") for label in point) for point in itertools.product(*order))
    return [key for key in full if key not in groups]


def _cell(
    key: Key, axes: Sequence[Axis], trials: Sequence[Trial], known: Mapping[tuple[str, str | None], object]
) -> Cell:
    found = {axis.name: label for axis, (label, _) in zip(axes, key, strict=True) if label is not None}
    if trials:
        return Cell(found, trials[0].point, tuple(trials))
    return Cell(found, {name: known[name, label] for name, label in found.items() if (name, label) in known}, ())


def group_axis(axes: Sequence[Axis]) -> Axis | None:
    """Return the dimension drawn as colors: the methods, else the last category beside another axis."""
    for axis in axes:
        if is_method(axis):
            return axis
    categories = [axis for axis in axes if axis.scale == "category"]
    return categories[-1] if len(axes) > 1 and categories else None


def is_method(axis: Axis) -> bool:
    """Return whether an axis tells methods apart."""
    return axis.name.rpartition(".")[2] == METHOD


def same(label: str, other: str) -> bool:
    """Return whether two labels are one, as text or as numbers: 0.20 is 0.2."""
    return label == other or (number(label) is not None and number(label) == number(other))


def anchors_of(cell: Cell, objective: Objective, anchors: Iterable[Anchor]) -> list[Anchor]:
    """Return the published values that belong to a cell."""
    return [
        anchor
        for anchor in anchors
        if anchor.objective == objective.title
        and all(name in cell.labels and same(label, cell.labels[name]) for name, label in anchor.labels.items())
    ]
