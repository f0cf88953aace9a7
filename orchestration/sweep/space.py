"""The space of a sweep: what its file says of `axes`, as values; which points lie in it, and a grid's order of them.

    axis: [a, b]                          a list of values, each tried; of a path, or of labels of an axis of the base
    axis: {label: {path: value}}          named points, each of which may set several paths, or none
    axis: {choice: [a, b]}                either form under its own name, so that more can be said; also `grid:`
    axis: {uniform: [low, high]}          a number, ends included; `loguniform` and `int` alike
    axis: {..., when: {other: value}}     this axis is there only where an earlier one has that value, or one of a list

A point maps each axis that applies to its value: a number, text, a list; for named points the name. Pure.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestration.document import Place, Tree, mapping, only, show
from orchestration.errors import SpecError, did_you_mean

Kind = Literal["grid", "choice", "uniform", "loguniform", "int"]
Point: TypeAlias = dict[str, Tree]
Lineage: TypeAlias = tuple[Point, ...]  # of a member of a population: its values in each generation

LISTS: tuple[Kind, ...] = ("grid", "choice")
RANGES: tuple[Kind, ...] = ("uniform", "loguniform", "int")
MAX_POINTS = 1000
DIGITS = 6  # significant ones of a number that is drawn: file, ledger and tags show the same number
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,99}")
_LABEL = re.compile(r"[A-Za-z0-9._/+:%, \[\]()-]{1,64}")
_MOST_EXACT = 2**53  # whole numbers up to here are floats too


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that trials differ in."""

    name: str  # a path such as `pretrain.params.lr`, an axis of the base, or any name of named points
    kind: Kind
    values: tuple[Tree, ...] = ()  # of a grid or a choice: values, or names
    sets: Mapping[str, Mapping[str, Tree]] | None = None  # of named points: value by path, by name
    low: float = 0.0  # of a range, both ends included
    high: float = 0.0
    when: Mapping[str, tuple[Tree, ...]] = field(default_factory=dict)  # values of earlier axes that this one needs

    def applies(self, point: Mapping[str, Tree]) -> bool:
        """Return whether this axis is there, given the values of earlier ones."""
        return all(
            name in point and any(_same(point[name], each) for each in values) for name, values in self.when.items()
        )

    def holds(self, value: Tree) -> bool:
        """Return whether `value` lies on this axis."""
        if self.kind in LISTS:
            return any(_same(value, other) for other in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (self.kind != "int" or isinstance(value, int))

    def draw(self, chance: random.Random) -> Tree:
        """Return a value by chance: even over a list, a range, or the logarithm of one."""
        if self.kind in LISTS:
            return self.values[chance.randrange(len(self.values))]
        if self.kind == "int":
            return chance.randint(int(self.low), int(self.high))
        if self.kind == "uniform":
            return self.rounded(chance.uniform(self.low, self.high))
        return self.rounded(math.exp(chance.uniform(math.log(self.low), math.log(self.high))))

    def rounded(self, number: float) -> float:
        """Return `number` with few digits, inside the range."""
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)


Space: TypeAlias = tuple[Axis, ...]


def parse(raw: Tree, place: Place) -> Space:
    """Return the axes of a file. Raises: SpecError."""
    axes: list[Axis] = []
    for name, value in mapping(raw, place).items():
        where = place.at(name)
        if not _NAME.fullmatch(name) or name.strip() != name:
            raise SpecError("an axis has a path or a name of letters, digits, spaces and . _ -", place=str(where))
        if name == "seed":
            raise SpecError("seeds are no axis", place=str(where), hint="`seeds: [0, 1, 2]` beside `axes`")
        axes.append(_axis(name, value, axes, where))
    if not axes:
        raise SpecError("there is no axis, so there is nothing to vary", place=str(place))
    return tuple(axes)


def render(space: Space) -> dict[str, Tree]:
    """Return what `parse` reads as `space`."""
    tree: dict[str, Tree] = {}
    for axis in space:
        said: dict[str, Tree] = {axis.kind: _said(axis)}
        if axis.when:
            said["when"] = {name: list(values) for name, values in axis.when.items()}
        tree[axis.name] = said
    return tree


def count(space: Space) -> int | None:
    """Return how many points a grid of `space` has; None where an axis is a range."""
    return None if any(axis.kind in RANGES for axis in space) else _count(space, {})


def grid(space: Space, place: Place) -> list[Point]:
    """Return every point, the last axis fastest. Raises: SpecError for a range, and for more than MAX_POINTS."""
    for axis in space:
        if axis.kind in RANGES:
            hint = "list its values, or set `search: {kind: random}`"
            raise SpecError("a grid cannot try a whole range", place=str(place.at(axis.name)), hint=hint)
    total = _count(space, {})
    if total > MAX_POINTS:
        raise SpecError(f"asks for {total} points, more than {MAX_POINTS}", place=str(place))
    return list(_points(space, {}))


def draw(space: Space, chance: random.Random) -> Point:
    """Return a point by chance, axis by axis."""
    point: Point = {}
    for axis in space:
        if axis.applies(point):
            point[axis.name] = axis.draw(chance)
    return point


def label(value: Tree) -> str:
    """Return a value in words.

    >>> label("crop only"), label(0.2), label([0.2, 1.0]), label(True)
    ('crop only', '0.2', '[0.2, 1.0]', 'true')
    """
    return value if isinstance(value, str) else json.dumps(value)


def short_names(space: Space) -> dict[str, str]:
    """Return a short name by axis: the last step of its path, after the stage unless that is `pretrain`.

    Where two would be called alike, and of an axis that is no path, all of it.
    """
    short = [_short_name(axis.name) for axis in space]
    return {
        axis.name: name if short.count(name) == 1 and name != "seed" else axis.name
        for axis, name in zip(space, short, strict=True)
    }


def _short_name(name: str) -> str:
    stage, *steps = name.split(".")
    return name if not steps else steps[-1] if stage == "pretrain" else f"{stage} {steps[-1]}"


def _axis(name: str, raw: Tree, earlier: Sequence[Axis], place: Place) -> Axis:
    if isinstance(raw, list):
        return _listed(Axis(name=name, kind="grid"), raw, place)
    if not isinstance(raw, dict):
        hint = "such as [0.1, 0.2] or {loguniform: [0.01, 1]}"
        raise SpecError(f"expected a list or a mapping, got {show(raw)}", place=str(place), hint=hint)
    kinds = [kind for kind in (*LISTS, *RANGES) if kind in raw]
    if not kinds and "when" not in raw:
        return _listed(Axis(name=name, kind="grid"), raw, place)
    if len(kinds) != 1:
        fact = f"an axis is one of these, got {' and '.join(map(show, kinds)) or 'none'}"
        raise SpecError(fact, place=str(place), hint=", ".join((*LISTS, *RANGES)))
    only(raw, (*LISTS, *RANGES, "when"), place)
    kind = kinds[0]
    base = Axis(name=name, kind=kind, when=_when(raw.get("when"), earlier, place.at("when")))
    below = place.at(kind)
    return _listed(base, raw[kind], below) if kind in LISTS else _ranged(base, raw[kind], below)


def _listed(base: Axis, raw: Tree, place: Place) -> Axis:
    sets: dict[str, Mapping[str, Tree]] | None = None
    if isinstance(raw, dict):
        sets = {name: mapping(value, place.at(name)) for name, value in raw.items()}
        values: list[Tree] = list(sets)
    elif isinstance(raw, list):
        values = raw
    else:
        raise SpecError(f"expected a list of values, got {show(raw)}", place=str(place), hint="such as [0.1, 0.2]")
    if not values:
        raise SpecError("this axis has no values", place=str(place))
    labels = set[str]()
    for value in values:
        if isinstance(value, dict) or value is None:
            hint = "to change several things at once, name the values: {label: {path: value}}"
            raise SpecError(f"a value is a number, a word or a list, got {show(value)}", place=str(place), hint=hint)
        if isinstance(value, str) and not _LABEL.fullmatch(value):
            raise SpecError(f"{show(value)} cannot be a label", place=str(place), hint="up to 64 plain characters")
        if label(_number(value)) in labels:
            raise SpecError(f"{show(value)} is listed twice", place=str(place))
        labels.add(label(_number(value)))
    return Axis(name=base.name, kind=base.kind, values=tuple(values), sets=sets, when=base.when)


def _ranged(base: Axis, raw: Tree, place: Place) -> Axis:
    if not isinstance(raw, list) or len(raw) != 2:
        raise SpecError(f"expected [low, high], got {show(raw)}", place=str(place))
    low, high = (_end(value, base.kind, place) for value in raw)
    if low >= high:
        raise SpecError(f"the low end {show(raw[0])} is not below the high end {show(raw[1])}", place=str(place))
    if base.kind == "loguniform" and low <= 0:
        raise SpecError(f"a logarithm needs more than 0, got {show(raw[0])}", place=str(place))
    return Axis(name=base.name, kind=base.kind, low=low, high=high, when=base.when)


def _end(value: Tree, kind: Kind, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"expected a number, got {show(value)}", place=str(place))
    if kind == "int" and not isinstance(value, int):
        raise SpecError(f"expected a whole number, got {show(value)}", place=str(place))
    if abs(value) > _MOST_EXACT and isinstance(value, int):
        raise SpecError(f"the number {show(value)} is too large", place=str(place))
    return float(value)


def _when(raw: Tree, earlier: Sequence[Axis], place: Place) -> dict[str, tuple[Tree, ...]]:
    axes = {axis.name: axis for axis in earlier}
    found: dict[str, tuple[Tree, ...]] = {}
    for name, value in mapping(raw, place).items():
        if name not in axes:
            hint = did_you_mean(name, axes) + "; it must come before this one" if axes else "it must come before"
            raise SpecError(f"no earlier axis is called {show(name)}", place=str(place.at(name)), hint=hint)
        values = value if isinstance(value, list) and not axes[name].holds(value) else [value]
        for each in values:
            if axes[name].kind not in LISTS or not axes[name].holds(each):
                known = [label(other) for other in axes[name].values]
                hint = did_you_mean(label(each), known) if known else "a condition is on an axis of listed values"
                raise SpecError(f"{show(name)} is never {show(each)}", place=str(place.at(name)), hint=hint)
        if not values:
            raise SpecError("an empty list is never met", place=str(place.at(name)))
        found[name] = tuple(values)
    return found


def _said(axis: Axis) -> Tree:
    if axis.kind in RANGES:
        whole = axis.kind == "int"
        return [int(axis.low) if whole else axis.low, int(axis.high) if whole else axis.high]
    return list(axis.values) if axis.sets is None else {name: dict(paths) for name, paths in axis.sets.items()}


def _points(space: Space, point: Point) -> Iterator[Point]:
    if not space:
        yield dict(point)
        return
    axis, rest = space[0], space[1:]
    if not axis.applies(point):
        yield from _points(rest, point)
        return
    for value in axis.values:
        yield from _points(rest, {**point, axis.name: value})


def _count(space: Space, point: Point) -> int:
    """Return the number of points without making them, while no later axis depends on a value."""
    if not space:
        return 1
    axis, rest = space[0], space[1:]
    if not axis.applies(point):
        return _count(rest, point)
    if not any(axis.name in later.when for later in rest):
        return len(axis.values) * _count(rest, {**point, axis.name: axis.values[0]})
    return sum(_count(rest, {**point, axis.name: value}) for value in axis.values)


def _same(one: Tree, other: Tree) -> bool:
    """Return whether two values are one: true is not 1 here, and 1 is 1.0."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _number(value: Tree) -> Tree:
    """Return 30.0 as 30, so that they count as one value."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
