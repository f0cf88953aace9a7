"""Which stage waits for which, and every way to say it wrongly."""

from __future__ import annotations

import re

import pytest

from orchestration.document import Place, Tree
from orchestration.errors import SpecError
from orchestration.order import needs

PLACE = Place("p.yaml").at("stages")
KINDS = {"pre": "pretrain", "probe": "linear", "more": "transfer"}


def test_needs_are_read_by_name() -> None:
    raw: dict[str, Tree] = {"pre": None, "probe": ["pre"], "more": ["pre", "probe"]}
    assert needs(raw, KINDS, PLACE) == {"pre": (), "probe": ("pre",), "more": ("pre", "probe")}


def test_a_stage_may_come_after_others_than_it_takes_its_input_from() -> None:
    kinds = {"pre": "pretrain", "again": "pretrain", "probe": "linear"}
    assert needs({"pre": None, "again": ["pre"], "probe": ["again"]}, kinds, PLACE)["again"] == ("pre",)


@pytest.mark.parametrize(
    ("raw", "stage", "fact", "hint"),
    [
        ({"pre": None, "probe": "pre"}, "probe", "expected a list of stages, got `pre`", "[pre]"),
        ({"pre": None, "probe": ["prE"]}, "probe", "no stage is called `prE`", "did you mean `pre`?"),
        ({"pre": None, "probe": [3]}, "probe", "no stage is called `3`", "known: "),
        ({"pre": None, "probe": ["pre", "pre"]}, "probe", "`pre` is listed twice", ""),
        ({"pre": None, "probe": None}, "probe", "a `linear` stage needs a stage of kind `pretrain`", "[pre]"),
        ({"probe": None}, "probe", "a `linear` stage needs a stage of kind `pretrain`", "add a stage of kind"),
    ],
)
def test_mistakes_are_told_at_their_place(raw: dict[str, Tree], stage: str, fact: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        needs(raw, {name: KINDS[name] for name in raw}, PLACE)
    assert caught.value.fact == fact
    assert hint in caught.value.hint
    assert caught.value.place == f"p.yaml: stages.{stage}.needs"


def test_two_inputs_of_one_kind_are_one_too_many() -> None:
    kinds = {"pre": "pretrain", "again": "pretrain", "probe": "linear"}
    with pytest.raises(SpecError, match="needs one stage of kind `pretrain`, got `pre`, `again`"):
        needs({"pre": None, "again": None, "probe": ["pre", "again"]}, kinds, PLACE)


@pytest.mark.parametrize(
    "raw",
    [{"pre": ["pre"]}, {"pre": ["probe"], "probe": ["pre"]}, {"pre": ["more"], "probe": ["pre"], "more": ["probe"]}],
)
def test_stages_that_wait_for_each_other_are_refused(raw: dict[str, Tree]) -> None:
    with pytest.raises(SpecError, match="these stages wait for each other: ") as caught:
        needs(raw, {name: KINDS[name] for name in raw}, PLACE)
    circle = re.findall(r"\w+", caught.value.fact.partition(": ")[2])
    assert set(circle) == set(raw)
    assert circle[0] == circle[-1]
