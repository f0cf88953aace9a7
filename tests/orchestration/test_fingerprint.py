"""A fingerprint changes with every leaf, and with nothing else."""

import copy
import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestration.fingerprint import differences, fingerprint

numbers = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5)
params = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below), max_leaves=5
    ),
    max_size=4,
)


def of(
    tree: dict[str, Any], *, results_version: int = 1, digest: str = "d", inputs: tuple[str, ...] = ("a", "b")
) -> str:
    return fingerprint("linear", tree, results_version=results_version, digest=digest, inputs=inputs)


def test_it_is_the_sha256_of_canonical_json() -> None:
    # printf '["linear",{"a":1,"b":[2,0.5]},1,"d",["a","b"]]' | sha256sum
    assert of({"b": [2.0, 0.5], "a": 1}) == "fee5edf14b677be0"


@given(params)
@settings(max_examples=100, deadline=None)
def test_key_order_is_irrelevant(tree: dict[str, Any]) -> None:
    assert of(tree) == of(dict(reversed(tree.items())))


@given(st.integers(-(2**52), 2**52))
def test_whole_floats_are_integers(number: int) -> None:
    assert of({"a": [number]}) == of({"a": [float(number)]})


@given(params, st.data())
@settings(max_examples=100, deadline=None)
def test_every_leaf_counts(tree: dict[str, Any], data: st.DataObject) -> None:
    assume(tree)
    other: Any = copy.deepcopy(tree)
    node, key = other, data.draw(st.sampled_from(sorted(other)))
    while isinstance(node[key], dict | list) and node[key]:
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = "another" if node[key] != "another" else "still another"
    assert of(other) != of(tree)
    assert differences(tree, other) != []
    assert differences(tree, tree) == []


def test_everything_else_counts_too() -> None:
    prints = {
        of({}),
        of({}, results_version=2),
        of({}, digest="e"),
        of({}, inputs=("a",)),
        fingerprint("transfer", {}, results_version=1, digest="d", inputs=["a", "b"]),
        of({"a": True}),
        of({"a": 1}),
        of({"a": "1"}),
        of({"a": None}),
    }
    assert len(prints) == 9
    assert of({}, inputs=("b", "a")) == of({})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        of({"a": [value]})


@pytest.mark.parametrize("tree", [{"a": {1: 2}}, {"a": object()}, {"a": {3}}, {"a": b"x"}])
def test_what_json_cannot_hold_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        of(tree)


def test_differences_are_paths_with_both_values() -> None:
    before = {"epochs": 30, "settings": {"temperature": 0.2, "head": "mlp"}, "crop": [0.2, 1.0]}
    after = {"epochs": 30.0, "settings": {"temperature": 0.1, "dim": 64}, "crop": [0.08, 1.0]}
    assert differences(before, after) == [
        "settings.temperature 0.2 -> 0.1",
        "settings.dim unset -> 64",
        "crop [0.2, 1] -> [0.08, 1]",
        "settings.head mlp -> unset",
    ]
