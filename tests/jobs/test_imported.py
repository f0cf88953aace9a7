"""An imported pre-training is its weights and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import jobs
from jobs import imported

SHA256 = "0123456789abcdef" * 4
RAW = {"method": "imported", "settings": {"as_method": "moco_v2", "sha256": SHA256}}


def typed(raw: dict[str, Any]) -> TypeAdapter[Any]:
    return TypeAdapter(jobs.module("pretrain").params_type(raw))


def dumped(raw: dict[str, Any]) -> Any:
    return typed(raw).dump_python(typed(raw).validate_python(raw), mode="json")


def test_only_the_weights_are_kept_whatever_all_arms_are_given() -> None:
    busy = {**RAW, "dataset": "mnist5k", "seed": 2, "epochs": 6, "backbone": "resnet18", "lr": 0.1, "knn_every": 3}
    assert dumped(busy) == dumped(RAW) == RAW
    params = typed(busy).validate_python(busy)
    assert (params.dataset, params.seed) == ("", 0)
    assert typed(RAW).validate_python(dumped(busy)) == params


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"epoch": 6}, ("epoch",)),
        ({"settings": {"as_method": "swav"}}, ("settings", "sha256")),
        ({"settings": {"as_method": "swav", "sha256": SHA256, "file": "x"}}, ("settings", "file")),
    ],
)
def test_misspelt_and_missing_keys_are_refused(change: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        typed(RAW).validate_python({**RAW, **change})
    assert [error["loc"] for error in caught.value.errors()] == [place]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"as_method": "MoCo v2", "sha256": SHA256}, "as_method: must be lower-case"),
        ({"as_method": "../x", "sha256": SHA256}, "as_method: must be lower-case"),
        ({"as_method": "moco_v2", "sha256": SHA256[:-1]}, "sha256: must be 64"),
        ({"as_method": "moco_v2", "sha256": SHA256.upper()}, "sha256: must be 64"),
    ],
)
def test_settings_name_a_method_and_a_digest(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imported.ImportedSettings(**settings)
