"""A mistake in a table file is one error that names its place, whatever the mistake is."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.document import Place
from orchestration.errors import LeoclrOpsError, SpecError
from orchestration.table import spec as table_spec
from orchestration.table.read import load, read
from orchestration.table.spec import Published, Row

GOOD = "{title: t, pipeline: p, rows: {by: method, titles: {a: A}}, columns: [{title: c, stage: s, metric: m}]}"
SELECTED: dict[str, Any] = {
    "title": "t",
    "pipelines": ["p"],
    "runs": {"dataset": "cifar10", "params.settings.epochs": 100},
    "flags": {"again": "reproduced"},
    "equal": ["epochs"],
    "rows": {
        "a": {"title": "A", "facts": {"epochs": 8}, "runs": {"method": "leoclr"}, "flags": ["again"]},
        "b": {"title": "B", "why": "not ours"},
    },
    "columns": [{"title": "c", "stage": "linear", "metric": "top1", "runs": {"protocol": "moco"}}],
    "published": {"source": "paper", "values": {"a": {"c": {"value": "unknown", "flags": ["again"]}}, "b": {"c": 1}}},
    "differences": [{"of": "a", "minus": "b"}],
    "notes": ["a line"],
}


@pytest.mark.parametrize(
    ("old", "new", "place", "fact", "hint"),
    [
        ("title: t", "titel: t", "titel", "no key here is called `titel`", "did you mean `title`?"),
        ("pipeline: p, ", "", "", "`pipeline` is missing", ""),
        ("by: method, ", "", "rows", "`by` is missing", ""),
        ("titles: {a: A}", "titles: {}", "rows.titles", "expected at least one row", "title by label"),
        ("titles: {a: A}", "titles: {a: A, b: A}", "rows.titles", "two are called `A`", ""),
        ("metric: m", "metrics: m", "columns.0.metrics", "no key here is called `metrics`", "did you mean `metric`?"),
        ("metric: m", "metric: 3", "columns.0.metric", "expected one line of text, got `3`", ""),
        ("metric: m", "metric: m, better: more", "columns.0.better", "expected `higher` or `lower`", ""),
        ("metric: m", "metric: m, decimals: 9", "columns.0.decimals", "expected 0 to 6, got `9`", ""),
        ("metric: m", "metric: m, runs: {}", "columns.0.runs", "no key here is called `runs`", ""),
        ("[{title: c, stage: s, metric: m}]", "[]", "columns", "expected a list of columns", ""),
        ("title: t", "title: t, published: {values: {}}", "published", "`source` is missing", ""),
        ("title: t", "title: t, equal: []", "equal", "no key here is called `equal`", ""),
        ("title: t", "title: t, differences: [{of: a}]", "differences.0", "`minus` is missing", ""),
        ("title: t", "title: t, differences: {of: a}", "differences", "expected a list", "such as"),
        ("title: t", "title: t, flags: {x: 1}", "flags.x", "expected one line of text, got `1`", ""),
        ("title: t", "title: t, notes: x", "notes", "expected a list, got `x`", ""),
        (
            "title: t",
            "title: t, published: {source: s, values: {aa: {c: 1}}}",
            "published.values.aa",
            "no row here is called `aa`",
            "",
        ),
        (
            "title: t",
            "title: t, published: {source: s, values: {a: {c: x}}}",
            "published.values.a.c",
            "expected a number or `unknown`, got `x`",
            "",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, place: str, fact: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(GOOD)
    assert load(str(file)).rows == (Row("A", {"method": "a"}, "a"),)
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        load(str(file))
    assert caught.value.place == (f"{file}: {place}" if place else str(file))
    assert caught.value.fact.startswith(fact)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("path", "value", "place", "fact", "hint"),
    [
        (("runs", "datset"), "x", "runs.datset", "no key of a selector is called `datset`", "did you mean `dataset`?"),
        (("runs", "params.dataset"), "x", "runs.params.dataset", "`params.dataset` is given twice", ""),
        (("runs", "protocol"), 3, "runs.protocol", "expected one line of text", ""),
        (("rows", "a", "facts", "epochs"), True, "rows.a.facts.epochs", "expected a number or a word", ""),
        (("rows", "a", "flags"), ["agin"], "rows.a.flags.0", "no flag here is called `agin`", "did you mean `again`?"),
        (("rows", "a", "colour"), "x", "rows.a.colour", "no key here is called `colour`", ""),
        (("rows",), {}, "rows", "expected at least one row", ""),
        (("equal",), ["epoch"], "equal.0", "no fact here is called `epoch`", "did you mean `epochs`?"),
        (("differences", 0, "of"), "c", "differences.0.of", "no row here is called `c`", ""),
        (
            ("columns", 0, "runs", "method"),
            "moco_v2",
            "columns.0",
            "this column wants `pretrain.method`",
            "say it once",
        ),
        (("columns", 0, "runs", "dataset"), "stl10", "columns.0", "this column wants `params.dataset`", "say it once"),
        (("pipeline",), "p", "pipelines", "no key here is called `pipelines`", ""),
        (("published", "values", "a", "c", "value"), None, "published.values.a.c.value", "expected a number", ""),
    ],
)
def test_a_mistake_in_a_selection_is_told_with_its_place(
    path: tuple[str | int, ...], value: Any, place: str, fact: str, hint: str
) -> None:
    with pytest.raises(SpecError) as caught:
        read(_with(path, value), Place("t.yaml"))
    assert caught.value.place == f"t.yaml: {place}"
    assert caught.value.fact.startswith(fact)
    assert caught.value.hint.startswith(hint)


def test_a_selection_is_read_whole() -> None:
    found = read(copy.deepcopy(SELECTED), Place("t.yaml"))
    assert found.runs == {"params.dataset": "cifar10", "params.settings.epochs": 100}
    assert found.selector(found.rows[0], found.columns[0]) == {
        **found.runs, "pretrain.method": "leoclr", "protocol": "moco",
    }  # fmt: skip
    assert found.published == {("A", "c"): Published(None, "", ("again",)), ("B", "c"): Published(1.0)}
    assert [(each.of, each.minus, each.title) for each in found.differences] == [("a", "b", "A - B")]
    assert (found.rows[1].why, found.equal, found.notes, found.pipelines) == (
        "not ours",
        ("epochs",),
        ("a line",),
        ("p",),
    )


def test_a_pipeline_of_a_file_lies_beside_the_table(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(json.dumps({**SELECTED, "pipelines": ["quickstart", "mine.yaml"]}))
    assert load(str(file)).pipelines == ("quickstart", str(tmp_path / "mine.yaml"))


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(LeoclrOpsError, match="no table is called `quikstart`") as caught:
        load("quikstart")
    assert caught.value.hint == "did you mean `quickstart`?"
    for name in ("a" * 5000, "nul\0byte"):
        with pytest.raises(LeoclrOpsError, match="no table is called"):
            load(name)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x" * 5000)
trees = st.recursive(
    leaves, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3)
)


def _paths(tree: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(path for key, each in below for path in _paths(each, (*at, key)))]


def _with(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(SELECTED)
    node: Any = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def _error(act: Callable[[], object]) -> SpecError | None:
    try:
        act()
    except SpecError as error:
        return error
    return None


@given(path=st.sampled_from([path for path in _paths(SELECTED) if path]), value=trees)
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_is_taken_or_refused_by_one_clear_error(path: tuple[str | int, ...], value: Any) -> None:
    error = _error(lambda: read(_with(path, value), Place("t.yaml")))
    assert error is None or (error.place.startswith("t.yaml") and "\n" not in error.fact)


@given(text=st.text(max_size=60), where=st.integers(0, 400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_typo_in_a_shipped_file_is_taken_or_refused(text: str, where: int, tmp_path: Path) -> None:
    whole = table_spec.shipped()["quickstart"].read_text()
    body = whole[whole.index("title:") :]
    file = tmp_path / "t.yaml"
    file.write_text(body[:where] + text + body[where + 3 :], encoding="utf-8", errors="surrogateescape")
    error = _error(lambda: load(str(file)))
    assert error is None or error.place.startswith(str(file))
