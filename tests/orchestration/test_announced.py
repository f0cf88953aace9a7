import json
from pathlib import Path

import pytest

from orchestration import announced
from orchestration.announced import Announced
from tests.orchestration import tracked


def test_a_plan_is_read_back(tmp_path: Path) -> None:
    tracked.table(tmp_path)
    plan = tracked.planned(tmp_path)
    found = announced.read(announced.to_json(plan))
    assert [(each.name, each.arms, each.fingerprint) for each in found] == [
        (each.name, each.arms, each.fingerprint) for each in plan.stages
    ]
    assert {(each.kind, each.todo, each.estimate_s) for each in found} == {
        ("pretrain", True, None),
        ("knn", True, None),
    }
    assert {each.shows for each in found if each.kind == "knn"} == {"top1"}


@pytest.mark.parametrize("text", ["", "null", "{}", "[1]", "[[]]", '[{"name": 1}]', "not JSON", '{"a": 1}', "[" * 5000])
def test_what_is_no_plan_is_passed_over(text: str) -> None:
    assert announced.read(text) == ()


def test_odd_values_do_no_harm() -> None:
    stage = {"name": 1, "kind": "knn", "arms": "ab", "fingerprint": [], "todo": 0, "estimate_s": True, "shows": None}
    text = json.dumps([stage]).replace("true", "Infinity")
    assert announced.read(text) == (Announced("1", "knn", (), "[]", False, None, "None"),)


@pytest.mark.parametrize("seconds", ["1" + "0" * 400, "-1" + "0" * 400, "NaN", "true", '"5"', "[]"])
def test_a_time_that_is_none_is_not_known(seconds: str) -> None:
    stage = {"name": "a", "kind": "knn", "arms": [], "fingerprint": "f", "todo": True, "estimate_s": "?", "shows": "b"}
    text = json.dumps([stage]).replace('"?"', seconds)
    assert announced.read(text) == (Announced("a", "knn", (), "f", True, None, "b"),)


@pytest.mark.parametrize(
    "tag",
    [
        "", "null", "[]", "[1, 2]", '["a", 2, 0.5, null]', "[1, 2, 0.5, [1]]", '[1, 2, 0.5, {"a": 1}]',
        "[1e999, 2, 0, null]", f"[1, 2, 1{'0' * 400}, null]", "[" * 5000,
    ],
)  # fmt: skip
def test_progress_that_nobody_of_us_wrote_is_none(tag: str) -> None:
    assert announced.progress({"leoclr.progress": tag}) == (0, 0, 0.0, None)


def test_progress_stays_within_the_bar() -> None:
    assert announced.progress(announced.progress_tag(3, 2, 1.5, None)) == (3, 2, 1.0, None)
    assert announced.progress({}) == (0, 0, 0.0, None)
