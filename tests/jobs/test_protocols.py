"""Params of evaluations: settings of the named protocol, its pinned version, and its name in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs import protocols
from leoclr.evaluate.linear_protocols import CLSA, LBFGS, MoCo


def params(**raw: Any) -> protocols.EvaluationParams:
    raw = {"dataset": "digits", **raw}
    return TypeAdapter(protocols.params_type("linear", raw)).validate_python(raw)


def errors(**raw: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        params(**raw)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_settings_are_the_protocols_own_with_its_defaults() -> None:
    assert params().settings == MoCo()
    assert params(protocol="clsa", settings={"epochs": 3}).settings == CLSA(epochs=3)
    assert isinstance(params(protocol="lbfgs").settings, LBFGS)


def test_a_version_can_be_pinned_and_another_one_is_refused() -> None:
    assert params(version=1).version == 1
    assert [where for where, _ in errors(version=2)] == [("version",)]


def test_a_field_of_another_protocol_is_refused() -> None:
    assert [where for where, _ in errors(protocol="lbfgs", settings={"lrs": [1.0]})] == [("settings", "lrs")]


def test_an_unknown_protocol_is_told_the_known_ones() -> None:
    ((where, message),) = errors(protocol="mocco")
    assert where == ("protocol",)
    assert "'moco'" in message and "'lbfgs'" in message


def test_the_title_tells_what_was_changed() -> None:
    assert protocols.title("linear", params()) == "moco 1"
    # a value that is written out but is the protocol's own changes nothing
    changed = params(protocol="clsa", settings={"epochs": 10, "final_lr": 0.01, "lrs": [3.0]})
    assert protocols.title("linear", changed) == "clsa 1, changed: epochs, lrs"
