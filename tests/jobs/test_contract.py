"""What travels to a worker survives the way, and what a user may say of resources is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.contract import Job, Resources

JOB = Job(
    stage="probe",
    kind="linear",
    fingerprint="f" * 16,
    params={"dataset": "digits", "seed": 0, "view": {"resize": 28, "size": 28}, "milestones": [60, 80], "x": None},
    resources=Resources(workers=2, cpus_per_worker=0.5, gpus_per_worker=0),
    folder="/home/stages/f",
    inputs={"pretrain": "/home/backbone.safetensors"},
    data_root="/data",
)


def test_a_job_comes_through_json_unchanged() -> None:
    assert Job.model_validate(json.loads(json.dumps(JOB.model_dump(mode="json")))) == JOB


def test_a_job_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Job.model_validate({**JOB.model_dump(), "stages": "probe"})


@pytest.mark.parametrize("value", [JOB, JOB.resources])
def test_values_are_frozen(value: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, next(iter(type(value).model_fields)), 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workers", 0),
        ("workers", 4097),
        ("cpus_per_worker", 0),
        ("gpus_per_worker", -1),
        ("loader_workers", -1),
        ("checkpoint_every_s", -0.1),
        ("checkpoint_every_steps", -1),
        ("max_failures", -1),
        ("threads", 1),
    ],
)
def test_resources_refuse_the_impossible_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources.model_validate({field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_a_stage_runs_in_one_process_unless_told() -> None:
    plain = Resources()
    assert (plain.workers, plain.cpus_per_worker, plain.gpus_per_worker) == (1, 1, None)  # None: a GPU if there is one
    assert (plain.loader_workers, plain.max_failures) == (0, 2)
