"""The space grammar: what is written is read back, what is drawn lies inside, a grid is complete, mistakes are told."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.document import Place, Tree, dump, read
from orchestration.errors import SpecError
from orchestration.sweep import space as sweep_space
from orchestration.sweep.space import Axis, Space
from tests.orchestration.sweep.points import contains

FILE = Place("s.yaml")
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: float(f"{x:.6g}")),
    st.from_regex(r"[a-z][a-z0-9 ]{0,8}[a-z]", fullmatch=True),
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
)
PATHS = st.dictionaries(st.sampled_from(["a.params.x", "a.params.y", "b.params.z"]), st.integers(0, 9), max_size=2)


def key(value: Tree) -> str:
    number = isinstance(value, float) and value.is_integer()
    return sweep_space.label(int(value) if number and isinstance(value, float) else value)


LISTS = st.lists(SCALARS, min_size=1, max_size=4, unique_by=key)
NAMED = st.dictionaries(st.from_regex(r"[a-z][a-z0-9 ]{0,8}[a-z]", fullmatch=True), PATHS, min_size=1, max_size=3)


@st.composite
def ranges(draw: Any, kind: str) -> list[float]:
    if kind == "int":
        low = draw(st.integers(-1000, 1000))
        return [low, low + draw(st.integers(1, 1000))]
    low = float(draw(st.integers(1, 1000))) / 100
    return [low, low + draw(st.integers(1, 1000)) / 10]


@st.composite
def trees(draw: Any) -> dict[str, Any]:
    """A file's axes; later ones may depend on earlier lists."""
    tree: dict[str, Any] = {}
    lists: dict[str, list[Tree]] = {}
    for name in draw(st.lists(st.sampled_from(["a.params.u", "a.params.v", "w", "x y"]), min_size=1, unique=True)):
        kind = draw(st.sampled_from(["grid", "choice", "uniform", "loguniform", "int"]))
        lists_of = NAMED if name in ("w", "x y") else LISTS
        said = draw(lists_of if kind in ("grid", "choice") else ranges(kind))
        entry: dict[str, Any] = {kind: said}
        if lists and draw(st.booleans()):
            other = draw(st.sampled_from(sorted(lists)))
            entry["when"] = {other: [draw(st.sampled_from(lists[other]))]}
        if kind in ("grid", "choice"):
            lists[name] = list(said)
        tree[name] = entry
    return tree


SPACES = trees().map(lambda tree: sweep_space.parse(tree, FILE))


@settings(max_examples=60, deadline=None)
@given(SPACES)
def test_what_is_written_is_read_back(space: Space) -> None:
    assert sweep_space.parse(sweep_space.render(space), FILE) == space
    assert sweep_space.parse(read(dump(sweep_space.render(space)), FILE), FILE) == space


@settings(max_examples=60, deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_what_is_drawn_lies_inside_and_depends_on_the_seed_alone(space: Space, seed: int) -> None:
    point = sweep_space.draw(space, random.Random(seed))
    assert contains(space, point)
    assert sweep_space.draw(space, random.Random(seed)) == point
    assert not contains(space, {**point, "nobody": 1})
    missing = dict(list(point.items())[:-1])
    assert not contains(space, missing)


@settings(max_examples=60, deadline=None)
@given(SPACES)
def test_a_grid_has_every_point_once(space: Space) -> None:
    if sweep_space.count(space) is None:
        with pytest.raises(SpecError, match="a grid cannot try a whole range"):
            sweep_space.grid(space, FILE)
        return
    points = sweep_space.grid(space, FILE)
    assert len(points) == sweep_space.count(space) == _count(space, {})
    assert all(contains(space, point) for point in points)
    assert len({repr(sorted(point.items(), key=str)) for point in points}) == len(points)


def _count(space: Space, point: dict[str, Tree]) -> int:
    """Count by walking, without any shortcut."""
    if not space:
        return 1
    axis = space[0]
    if not axis.applies(point):
        return _count(space[1:], point)
    return sum(_count(space[1:], {**point, axis.name: value}) for value in axis.values)


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["grid", "choice", "uniform", "loguniform", "int", "when", "a.b"]), st.text()),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_whatever_is_written_is_a_space_or_one_error_with_a_place(raw: Tree) -> None:
    try:
        space = sweep_space.parse(raw, FILE.at("axes"))
    except SpecError as error:
        if not error.place.startswith("s.yaml: axes"):
            raise AssertionError(f"a mistake without its place: {error}") from error
        return
    assert sweep_space.parse(sweep_space.render(space), FILE) == space


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{a.b: {uniform: [1, 0]}}", "s.yaml: axes.a.b.uniform: the low end `1` is not below the high end `0`"),
        ("{a.b: {loguniform: [0, 1]}}", "s.yaml: axes.a.b.loguniform: a logarithm needs more than 0, got `0`"),
        ("{a.b: {int: [0.5, 1]}}", "s.yaml: axes.a.b.int: expected a whole number, got `0.5`"),
        ("{a.b: {uniform: [0, 1], int: [0, 1]}}", "s.yaml: axes.a.b: an axis is one of these, got `uniform` and `int`"),
        ("{a.b: [1, 1.0]}", "s.yaml: axes.a.b: `1.0` is listed twice"),
        ("{a.b: []}", "s.yaml: axes.a.b: this axis has no values"),
        ("{a.b: 3}", "s.yaml: axes.a.b: expected a list or a mapping, got `3`"),
        ("{seed: [0]}", "s.yaml: axes.seed: seeds are no axis"),
        ("{}", "s.yaml: axes: there is no axis, so there is nothing to vary"),
        ("{a.b: {grid: [1], when: {c: 1}}}", "s.yaml: axes.a.b.when.c: no earlier axis is called `c`"),
        ("{c: [x], a.b: {grid: [1], when: {c: y}}}", "s.yaml: axes.a.b.when.c: `c` is never `y`"),
        ("{a.b: {grid: [1], wen: {c: 1}}}", "s.yaml: axes.a.b.wen: no key here is called `wen`"),
        ("{a.b: {uniform: 3}}", "s.yaml: axes.a.b.uniform: expected [low, high], got `3`"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, fact: str) -> None:
    with pytest.raises(SpecError) as caught:
        sweep_space.parse(read(text, FILE), FILE.at("axes"))
    assert str(caught.value) == fact


def test_an_axis_may_depend_on_another() -> None:
    text = "{method: [leoclr, moco_v2], lr: {loguniform: [0.01, 1], when: {method: [leoclr]}}}"
    space = sweep_space.parse(read(text, FILE), FILE)
    assert contains(space, {"method": "leoclr", "lr": 0.1})
    assert contains(space, {"method": "moco_v2"})
    assert not contains(space, {"method": "moco_v2", "lr": 0.1})
    assert not contains(space, {"method": "leoclr"})


def test_true_is_not_one() -> None:
    axis = Axis(name="a.b", kind="grid", values=(True,))
    assert axis.holds(True) and not axis.holds(1)


def test_too_many_points_are_refused_before_they_are_made() -> None:
    space = tuple(Axis(name=f"a.{i}", kind="grid", values=tuple(range(10))) for i in range(12))
    with pytest.raises(SpecError, match="asks for 1000000000000 points, more than 1000"):
        sweep_space.grid(space, FILE)


def test_short_names_are_the_ends_of_paths_where_they_differ() -> None:
    names = ("pretrain.params.lr", "pretrain.params.settings.x", "linear.params.lr", "pretrain.params.x", "strong view")
    space = tuple(Axis(name=name, kind="grid", values=(1,)) for name in names)
    found = list(sweep_space.short_names(space).values())
    assert found == ["lr", "pretrain.params.settings.x", "linear lr", "pretrain.params.x", "strong view"]
