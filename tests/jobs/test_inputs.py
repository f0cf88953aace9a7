"""The data that a stage loads: with a policy for images that cannot be decoded."""

import logging
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs import inputs, linear, pretrain
from jobs.contract import Job, Resources
from leoclr.data.contract import Corrupt, DataError
from tests.leoclr.data import trees


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an image of a pets tree that is cut short."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trees.pets(tmp_path / "pets")
    path = tmp_path / "pets" / "oxford-iiit-pet" / "images" / "Abyssinian_1.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def job(root: Path, **params: object) -> Job:
    return Job(
        stage="linear",
        kind="linear",
        fingerprint="f",
        params={"dataset": "pets", **params},
        resources=Resources(),
        folder="",
        data_root=str(root),
    )


def test_a_damaged_image_fails_when_it_is_read_unless_the_params_say_skip(damaged: Path, tmp_path: Path) -> None:
    for params in ({}, {"corrupt": {"policy": "fail", "limit": 0}}):
        train = inputs.data(job(tmp_path / "pets", **params)).splits["train"]
        with pytest.raises(DataError, match=r"Abyssinian_1\.jpg"):
            train.images.read(0)


def test_skip_leaves_it_out_and_names_it_in_the_log(
    damaged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "leoclr"):
        data = inputs.data(job(tmp_path / "pets", corrupt={"policy": "skip", "limit": 1}))
    assert "1 damaged images of pets are left out" in caplog.text and str(damaged) in caplog.text
    assert data.splits["train"].labels.tolist() == [0, 1, 1, 2, 2]
    with pytest.raises(DataError, match="more than the 0 that may be left out"):
        inputs.data(job(tmp_path / "pets", corrupt={"policy": "skip"}))


@pytest.mark.parametrize(
    ("kind", "dataset", "told"),
    [
        ("linear", "digit_scenes", "digit_scenes: none of its training images has a class"),
        ("transfer", "digit_scenes", "digit_scenes: none of its training images has a class"),
        ("detection", "digits", "digits: its images have classes, and no boxes"),
    ],
)
def test_data_of_another_use_is_refused_in_plain_words(kind: str, dataset: str, told: str, tmp_path: Path) -> None:
    asked = job(tmp_path, dataset=dataset).model_copy(update={"kind": kind})
    with pytest.raises(DataError, match=told):
        inputs.data(asked)
    assert inputs.data(asked.model_copy(update={"kind": "pretrain"})).name == dataset


RAW = {"linear": {"dataset": "pets"}, "pretrain": {"dataset": "pets", "method": "moco_v2"}}


@pytest.mark.parametrize(("stage", "raw"), [(linear, RAW["linear"]), (pretrain, RAW["pretrain"])])
def test_the_policy_is_a_param_of_every_stage_and_a_wrong_one_is_refused(stage, raw: dict[str, str]) -> None:
    check = TypeAdapter(stage.params_type(raw)).validate_python
    assert check(raw).corrupt == Corrupt()
    assert check({**raw, "corrupt": {"policy": "skip", "limit": 3}}).corrupt == Corrupt(policy="skip", limit=3)
    for wrong in ({"policy": "ignore"}, {"limits": 3}, {"limit": 3}, {"policy": "skip", "limit": -1}):
        with pytest.raises(ValidationError) as caught:
            check({**raw, "corrupt": wrong})
        assert caught.value.errors()[0]["loc"][0] == "corrupt"
