"""Pydantic's findings in our words, with the path in the file."""

from dataclasses import dataclass, field

import pydantic
import pytest

from jobs.contract import FORBID
from orchestration.check import check, to_json
from orchestration.document import Place, Tree
from orchestration.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class View:
    size: int = 28

    def __post_init__(self) -> None:
        if self.size % 4:
            raise ValueError("size is not a multiple of 4")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class Fit:
    epochs: int = 1
    view: View = field(default_factory=View)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class Kind:
    fits: dict[str, Fit]
    steps: tuple[int, ...] = ()
    view: View | None = None
    width: float = 1.0


def checked(raw: dict[str, Tree]) -> Kind:
    return check(Kind, raw, where=lambda path: Place("p.yaml").at(*path), noun="param")


def test_what_is_right_comes_back_typed() -> None:
    kind = checked({"fits": {"a": {"epochs": 3}}, "steps": [60, 80], "view": {"size": 8}, "width": 2})
    assert kind == Kind(fits={"a": Fit(epochs=3)}, steps=(60, 80), view=View(size=8), width=2.0)
    assert to_json(kind) == {
        "fits": {"a": {"epochs": 3, "view": {"size": 28}}},
        "steps": [60, 80],
        "view": {"size": 8},
        "width": 2.0,
    }


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        ({"fits": {"a": {"epoch": 1}}}, "fits.a.epoch: no param here is called `epoch`", "did you mean `epochs`?"),
        (
            {"fits": {"a": {"view": {"siez": 1}}}},
            "fits.a.view.siez: no param here is called `siez`",
            "did you mean `size`?",
        ),
        ({"fits": {}, "view": {"x": 1}}, "view.x: no param here is called `x`", "known: `size`"),
        ({"fits": {"a": {"view": {"size": 6}}}}, "fits.a.view.size: size is not a multiple of 4, got `6`", ""),
        ({"fits": {}, "view": {"size": 6}}, "view.size: size is not a multiple of 4, got `6`", ""),
        ({"fits": {}, "view": 3}, "view: expected a mapping, got `3`", ""),
        ({"fits": []}, "fits: expected a mapping, got `[]`", ""),
        ({"fits": {}, "steps": [1, "a"]}, "steps.1: expected a whole number, got `a`", ""),
        ({"fits": {}, "width": None}, "width: expected a number, got `null`", ""),
        ({}, " `fits` is missing", "add `fits: ...`, it has no default"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(raw: dict[str, Tree], message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked(raw)
    assert str(caught.value) == f"p.yaml: {message.lstrip()}"
    assert caught.value.hint == hint
