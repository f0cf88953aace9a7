"""Tags of a stage's run: an evaluation says its protocol and what was changed in it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import TypeAdapter

import jobs
from jobs.contract import Resources
from orchestration import records
from orchestration.plan import PlannedStage, State
from orchestration.spec import StageSpec

PLANNED = PlannedStage(
    fingerprint="f" * 16,
    kind="linear",
    name="probe",
    arms=("leoclr",),
    spec=StageSpec("probe", "linear", (), None, {}, Resources()),  # type: ignore[arg-type]  # each test gives params
    inputs={},
    digest="d" * 8,
    state=State.TODO,
    why="new",
    run_id=None,
    estimate_s=None,
)


@pytest.mark.parametrize(
    ("kind", "raw", "title"),
    [
        ("linear", {"protocol": "clsa"}, "clsa 1"),
        ("linear", {"protocol": "clsa", "settings": {"epochs": 2, "final_lr": 0.01}}, "clsa 1, changed: epochs"),
        ("knn", {"settings": {"k": [5]}}, "wu2018 1, changed: k"),
        ("pretrain", {"method": "moco_v2"}, None),
    ],
)
def test_an_evaluations_run_says_its_protocol(kind: str, raw: dict[str, Any], title: str | None) -> None:
    raw = {"dataset": "digits", **raw}
    params = TypeAdapter(jobs.module(kind).params_type(raw)).validate_python(raw)
    planned = dataclasses.replace(PLANNED, kind=kind, spec=dataclasses.replace(PLANNED.spec, params=params))
    tags = records.stage_tags(planned, parent="p", pipeline="small", arm_labels={})
    assert tags.get(records.PROTOCOL) == title
