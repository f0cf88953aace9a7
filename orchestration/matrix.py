"""The matrix and `--set` of a pipeline become one draft of stages per arm.

Later wins: the file's stages, then the axes in file order, then `--set`. A draft remembers who put each value there, so
that a message can point at the line to mend.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestration.document import Place, Tree, mapping, printable, read, show
from orchestration.errors import SpecError, did_you_mean

MAX_ARMS = 1000
_LABEL = re.compile(r"[A-Za-z0-9._/+:-]{1,64}")
_AXIS = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHOWN = 200  # characters of a `--set` in a message


@dataclass(frozen=True, slots=True)
class Change:
    """One value put at one path of the stages."""

    path: tuple[str, ...]  # stage, "params" or "resources", key...
    value: Tree
    place: Place  # who asked for it


@dataclass(frozen=True, slots=True)
class Draft:
    """One arm, its params unchecked."""

    labels: Mapping[str, str]  # by axis
    stages: Mapping[str, dict[str, Tree]]
    changes: tuple[Change, ...]

    def place(self, path: tuple[str, ...], file: Place) -> Place:
        """Return the place to mend what is at `path` of the stages: the last change that covers it, else the stages."""
        for change in reversed(self.changes):
            if path[: len(change.path)] == change.path:
                return change.place.at(*path[len(change.path) :])
        return file.at("stages", *path)


def parse(override: str) -> Change:
    """Return `--set a.b.c=VALUE` with the value read as YAML; its path is not checked yet.

    >>> parse("pretrain.params.epochs=2").path
    ('pretrain', 'params', 'epochs')
    """
    text = printable(override)
    place = Place("--set " + (text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."))
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError("expected PATH=VALUE", place=str(place), hint="such as --set pretrain.params.epochs=2")
    return Change(tuple(path.strip().split(".")), read(value, place), place)


def override_head(document: dict[str, Tree], change: Change, file: Place) -> None:
    """Put a `--set` of title, name, table, data or matrix into `document`; data folders are relative to the shell's."""
    head, rest = change.path[0], ".".join(change.path[1:])
    if head in ("title", "name", "table"):
        if rest:
            raise SpecError(f"{show(head)} has nothing below it", place=str(change.place), hint=f"--set {head}=VALUE")
        document[head] = change.value
        return
    if not rest:
        raise SpecError(f"names no key of {show(head)}", place=str(change.place), hint=f"--set {head}.KEY=VALUE")
    below = document[head] = mapping(document.get(head), file.at(head))
    if head == "data":
        below[rest] = _absolute(change.value)
    else:
        below[rest] = select(below.get(rest), change)


def blame(error: SpecError, changes: Sequence[Change], file: Place) -> SpecError:
    """Return `error` at the `--set` that put the offending value into the head of the file, if one did."""
    for change in reversed(changes):
        below = str(file.at(*change.path))
        if error.place == below or error.place.startswith(below + "."):
            return SpecError(error.fact, place=str(change.place), hint=error.hint)
    return error


def expand(
    matrix: Mapping[str, Tree],
    stages: Mapping[str, dict[str, Tree]],
    *,
    kinds: Mapping[str, str],
    overrides: Sequence[Change],
    file: Place,
) -> list[Draft]:
    """Return a draft for each point of the matrix, the last axis fastest; one draft without a matrix.

    `kinds` are the stage kinds by stage name. Raises: SpecError.
    """
    last = tuple(Change(_target(c.path, kinds, c.place), c.value, c.place) for c in overrides)
    axes = [_axis(name, raw, kinds=kinds, place=file.at("matrix", name)) for name, raw in matrix.items()]
    count = math.prod(len(axis) for axis in axes)
    if count > MAX_ARMS:
        raise SpecError(f"asks for {count} arms, more than {MAX_ARMS}", place=str(file.at("matrix")))
    return [_draft(dict(zip(matrix, point, strict=True)), stages, last) for point in itertools.product(*axes)]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One value of an axis."""

    label: str
    changes: tuple[Change, ...]


def _draft(point: Mapping[str, _Choice], stages: Mapping[str, dict[str, Tree]], last: tuple[Change, ...]) -> Draft:
    changes = tuple(change for choice in point.values() for change in choice.changes) + last
    own = copy.deepcopy(dict(stages))
    for change in changes:
        _put(own, change)
    return Draft({axis: choice.label for axis, choice in point.items()}, own, changes)


def _put(stages: Mapping[str, dict[str, Tree]], change: Change) -> None:
    node = stages[change.path[0]]
    for depth, key in enumerate(change.path[1:-1], start=1):
        below = node.get(key)
        if below is None:
            below = node[key] = {}
        if not isinstance(below, dict):
            name = ".".join(change.path[: depth + 1])
            raise SpecError(f"{show(name)} is {show(below)}, not a mapping", place=str(change.place))
        node = below
    node[change.path[-1]] = copy.deepcopy(change.value)


def _axis(name: str, raw: Tree, *, kinds: Mapping[str, str], place: Place) -> list[_Choice]:
    if isinstance(raw, dict):
        choices = _labeled(name, raw, kinds=kinds, place=place)
    elif isinstance(raw, list):
        choices = _listed(name, raw, kinds=kinds, place=place)
    else:
        raise SpecError(f"expected a list of values, got {show(raw)}", place=str(place), hint="such as [0, 1, 2]")
    if not choices:
        raise SpecError("this axis has no values, so there is nothing to run", place=str(place))
    return choices


def _listed(name: str, values: list[Tree], *, kinds: Mapping[str, str], place: Place) -> list[_Choice]:
    paths = _paths(name, kinds, place)
    choices: dict[str, _Choice] = {}
    for value in values:
        if isinstance(value, list | dict):
            raise SpecError(
                f"the values of a list are numbers, booleans or words, got {show(value)}",
                place=str(place),
                hint="to change several things at once, name the values: {label: {path: value}}",
            )
        label = _label(value if isinstance(value, str) else json.dumps(value), place)
        if label in choices:
            raise SpecError(f"{show(value)} is listed twice", place=str(place))
        choices[label] = _Choice(label, tuple(Change(path, value, place) for path in paths))
    return list(choices.values())


def _labeled(name: str, values: dict[str, Tree], *, kinds: Mapping[str, str], place: Place) -> list[_Choice]:
    if name == "seed" or not _AXIS.fullmatch(name):
        raise SpecError("this axis takes a list of values, not named ones", place=str(place), hint="such as [0, 1, 2]")
    choices = []
    for label, raw in values.items():
        where = place.at(_label(label, place))
        paths = _paths(name, kinds, place) if name == "method" else ()
        own = [Change(path, label, where) for path in paths]
        for path, value in mapping(raw, where).items():
            own.append(Change(_target(tuple(path.split(".")), kinds, where.at(path)), value, where.at(path)))
        choices.append(_Choice(label, tuple(own)))
    return choices


def _paths(axis: str, kinds: Mapping[str, str], place: Place) -> tuple[tuple[str, ...], ...]:
    """Return the paths that a value of `axis` is put at."""
    if axis == "seed":
        return tuple((stage, "params", "seed") for stage in kinds)
    if axis == "method":
        paths = tuple((stage, "params", "method") for stage, kind in kinds.items() if kind == "pretrain")
        if not paths:
            raise SpecError("no stage of this pipeline is of kind `pretrain`", place=str(place))
        return paths
    if "." not in axis:
        hint = "an axis is `method`, `seed` or a path such as `pretrain.params.epochs`"
        raise SpecError(f"no axis of plain values is called {show(axis)}", place=str(place), hint=hint)
    path = _target(tuple(axis.split(".")), kinds, place)
    if path[1] != "params" or len(path) < 3:
        raise SpecError("an axis changes a param: <stage>.params.<name>", place=str(place))
    return (path,)


def _target(path: tuple[str, ...], kinds: Mapping[str, str], place: Place) -> tuple[str, ...]:
    """Return `path` from the stage on. Raises: SpecError where its first two steps lead nowhere."""
    if path[0] == "stages" and len(path) > 1:
        path = path[1:]
    if path[0] not in kinds:
        raise SpecError(f"no stage is called {show(path[0])}", place=str(place), hint=did_you_mean(path[0], kinds))
    sections = ("params", "resources")
    if len(path) < 2 or path[1] not in sections:
        what = f"no part of a stage that can be set is called {show(path[1])}" if path[1:] else "names no param"
        hint = did_you_mean(path[1], sections) if path[1:] else f"such as {path[0]}.params.seed"
        raise SpecError(what, place=str(place), hint=hint)
    if not all(path):
        raise SpecError("a step of this path is empty", place=str(place))
    return path


def _label(label: str, place: Place) -> str:
    if not _LABEL.fullmatch(label):
        hint = "up to 64 letters, digits and . _ / + : -"
        raise SpecError(f"{show(label)} cannot be the name of an arm", place=str(place), hint=hint)
    return label


def select(axis: Tree, change: Change) -> Tree:
    """Return what `--set matrix.AXIS=VALUE` makes of an axis; a list picks among named values."""
    if not isinstance(axis, dict) or not isinstance(change.value, list):
        return change.value
    chosen: dict[str, Tree] = {}
    for label in change.value:
        if not isinstance(label, str) or label not in axis:
            hint = did_you_mean(str(label), axis)
            raise SpecError(f"this axis has no value called {show(label)}", place=str(change.place), hint=hint)
        if label in chosen:
            raise SpecError(f"{show(label)} is listed twice", place=str(change.place))
        chosen[label] = axis[label]
    return chosen


def _absolute(folder: Tree) -> Tree:
    """Return `folder` from the current one on; `~` and what is no text are left to the check."""
    return str(Path.cwd() / folder) if isinstance(folder, str) and not folder.startswith("~") else folder
