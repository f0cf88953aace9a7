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
        ("placement", "near"),
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


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "greater than or equal to 1"),
        (4097, "less than or equal to 4096"),
        ({"min": 3, "max": 2}, "min: 3 is more than max, 2"),
        ({"min": 0, "max": 2}, "greater than or equal to 1"),
        ({"min": 1}, "Field required"),
    ],
)
def test_workers_are_a_number_or_a_range(value: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Resources.model_validate({"workers": value})
    few = Resources.model_validate({"workers": {"min": 2, "max": 8}})
    assert (few.fewest, few.most) == (2, 8)
    assert (few.of(4).fewest, few.of(4).most, few.of(4).workers) == (4, 4, 4)
    assert Resources.model_validate(few.model_dump(mode="json")) == few


def test_a_worker_has_whole_gpus_or_a_share_of_one() -> None:
    assert [Resources(gpus_per_worker=count).gpus_per_worker for count in (0.25, 1, 8)] == [0.25, 1, 8]
    with pytest.raises(ValidationError, match="gpus_per_worker: expected a whole number, or a share of one GPU"):
        Resources(gpus_per_worker=1.5)


def test_a_stage_runs_in_one_process_unless_told() -> None:
    plain = Resources()
    assert (plain.workers, plain.cpus_per_worker, plain.gpus_per_worker) == (1, 1, None)  # None: a GPU if there is one
    assert (plain.loader_workers, plain.max_failures) == (0, 2)
