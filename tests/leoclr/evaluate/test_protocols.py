"""Every protocol is a frozen class of its own whose every field has a default; changes to it are seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from leoclr.evaluate.linear_protocols import CLSA
from leoclr.evaluate.protocols import PROTOCOLS, changed, settings_type

EVERY = [(kind, name) for kind, protocols in PROTOCOLS.items() for name in protocols]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_protocol_is_versioned_frozen_and_complete(kind: str, name: str) -> None:
    cls = settings_type(kind, name)
    assert type(cls.VERSION) is int
    assert cls.VERSION >= 1
    settings: Any = cls()
    field = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, field, getattr(settings, field))
    assert not changed(kind, name, settings)


def test_each_protocol_is_a_class_of_its_own() -> None:
    paths = [path for protocols in PROTOCOLS.values() for path in protocols.values()]
    assert len(set(paths)) == len(paths)


def test_changed_names_the_fields_that_differ() -> None:
    assert changed("linear", "clsa", CLSA(epochs=3, final_lr=0.0)) == {"epochs": 3, "final_lr": 0.0}
