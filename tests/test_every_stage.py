"""The contract of `jobs`, for every line of its table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import jobs
from jobs import STAGES, inputs
from jobs.contract import Job, Metric, Resources
from leoclr import backbones, checkpoint
from leoclr.data.contract import Boxes, DataSet, Split, Stack
from leoclr.methods import METHODS
from leoclr.work import Work

EVERY = sorted(STAGES)
MLFLOW_NAME = re.compile(r"[\w \-.:/]{1,250}", re.ASCII)  # mlflow/utils/validation.py, on every system
RAW: dict[str, list[dict[str, Any]]] = {
    kind: [{"dataset": "digits"}] if kind != "pretrain" else [{"dataset": "digits", "method": m} for m in METHODS]
    for kind in STAGES
}
EACH = [(kind, raw) for kind in EVERY for raw in RAW[kind]]

VIEW = {"resize": 16, "size": 16}
ROUND = {"epochs": 1, "batch": 6, "view": VIEW}
TINY: dict[str, dict[str, Any]] = {
    "pretrain": {
        "method": "leoclr",
        "settings": {"queue_size": 12, "dim": 8},
        "epochs": 1,
        "batch": 6,
        "image_size": 16,
        "backbone": "resnet18",
        "width": 2,
        "stem": "stride2",
        "knn": {"k": 3},
    },
    "linear": {"protocol": "small", "settings": ROUND},
    "knn": {"protocol": "small", "settings": {"view": VIEW, "k": [3, 5]}},
    "semi_supervised": {
        "protocol": "small",
        "settings": {
            "view": VIEW,
            "batch": 6,
            "epochs": [1],
            "few_epochs": [1],
            "percents": [1, 2, 5, 10, 20, 50, 100],
        },
    },
    "transfer": {"protocol": "small", "settings": {**ROUND, "labels_pct": 100}},
    "detection": {
        "protocol": "small",
        "settings": {
            "iterations": 1,
            "batch": 2,
            "train_sides": [32],
            "test_side": 32,
            "precise_bn_steps": 1,
            "detector": {"anchor_sizes": [12], "proposals": [8, 4], "regions": 8, "pool": 2},
        },
    },
}


def typed(kind: str, raw: dict[str, Any]) -> TypeAdapter[Any]:
    return TypeAdapter(jobs.module(kind).params_type(raw))


@pytest.mark.parametrize("kind", EVERY)
def test_metrics_have_names_that_trackers_keep(kind: str) -> None:
    metrics = jobs.module(kind).METRICS
    assert metrics
    assert all(isinstance(metric, Metric) and metric.title for metric in metrics)
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert MLFLOW_NAME.fullmatch(metric.name)
        assert metric.unit in ("%", "")
        assert metric.better in ("higher", "lower")


@pytest.mark.parametrize("kind", EVERY)
def test_needs_are_other_kinds(kind: str) -> None:
    assert set(jobs.module(kind).NEEDS) <= STAGES.keys() - {kind}


@pytest.mark.parametrize(("kind", "raw"), EACH, ids=str)
def test_defaults_are_valid_and_come_through_json_unchanged(kind: str, raw: dict[str, Any]) -> None:
    params = typed(kind, raw)
    first = params.validate_python(raw)
    assert (first.dataset, first.seed) == ("digits", 0)
    written = json.loads(json.dumps(params.dump_python(first, mode="json")))
    assert params.validate_python(written) == first
    assert typed(kind, written).validate_python(written) == first  # the type is found again from what was written


@pytest.mark.parametrize(("kind", "raw"), EACH, ids=str)
def test_unknown_keys_are_refused(kind: str, raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        typed(kind, raw).validate_python({**raw, "learning_rat": 1})
    assert [error["loc"] for error in caught.value.errors()] == [("learning_rat",)]


@pytest.mark.parametrize(("kind", "raw"), EACH, ids=str)
def test_params_are_frozen(kind: str, raw: dict[str, Any]) -> None:
    params = typed(kind, raw).validate_python(raw)
    with pytest.raises(AttributeError):
        params.seed = 1


def test_settings_are_those_of_the_method_and_nested_mistakes_are_named() -> None:
    raw = {"dataset": "digits", "method": "moco_v2", "settings": {"crop_scal": 1}}
    with pytest.raises(ValidationError) as caught:
        typed("pretrain", raw).validate_python(raw)
    assert [error["loc"] for error in caught.value.errors()] == [("settings", "crop_scal")]
    assert jobs.module("pretrain").params_type(raw) is jobs.module("pretrain").params_type({"method": "moco_v2"})


def data() -> DataSet:
    """30 images of 3 classes, each with a box, so that every kind finds what it asks for."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        scenes = [
            Boxes(np.array([[4, 4, 18, 18]], np.float32), np.array([i % 3 + 1]), np.zeros(1, bool))
            for i in range(count)
        ]
        images = Stack(rng.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8))
        return Split(images, np.arange(count, dtype=np.int64) % 3, scenes)

    return DataSet("noise", ("a", "b", "c"), {"train": split(24), "test": split(6)}, (0.5,) * 3, (0.3,) * 3)


def job(kind: str, folder: Path) -> Job:
    raw = {"dataset": "digits", **TINY[kind]}
    params = typed(kind, raw)
    file = folder / inputs.BACKBONE
    trunk = backbones.build("resnet18", width=2, stem="stride2")
    checkpoint.save_backbone(file, trunk, name="resnet18", width=2, stem="stride2")
    return Job(
        stage=kind,
        kind=kind,
        fingerprint="f" * 16,
        params=params.dump_python(params.validate_python(raw), mode="json"),
        resources=Resources(),
        folder=str(folder),
        inputs={"pretrain": str(file)},
        data_root=str(folder),
    )


def train(work: Work) -> set[str]:
    """Run a work to its end; return the names of what it records on the way."""
    names: set[str] = set()
    for epoch in range(work.epochs):
        work.start_epoch(epoch, 0)
        for _ in range(work.steps(epoch)):
            names |= work.train_step().keys()
        names |= work.end_epoch(epoch).keys()
    return names


@pytest.mark.parametrize("kind", EVERY)
def test_a_stage_ends_with_the_metrics_that_it_promises(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(inputs, "data", lambda job: data())
    module: Any = jobs.module(kind)
    work: Work = module._build(job(kind, tmp_path), torch.device("cpu"))
    names = train(work)
    assert {"loss", "images"} <= names or work.epochs == 0
    final = work.finish()
    assert {metric.name for metric in module.METRICS} <= set(final)
    assert all(0 <= value <= 100 for value in final.values())


def test_a_pretraining_exports_the_trunk_that_evaluations_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "data", lambda job: data())
    module: Any = jobs.module("pretrain")
    mine = job("pretrain", tmp_path)
    work = module._build(mine, torch.device("cpu"))
    train(work)
    (tmp_path / inputs.BACKBONE).unlink()
    module._export(mine, work, tmp_path)
    loaded = inputs.backbone(mine)
    torch.testing.assert_close(loaded.state_dict(), work.method.backbone.state_dict(), rtol=0, atol=0)


def test_the_control_is_never_trained_whatever_is_asked() -> None:
    raw = {"dataset": "mnist5k", "method": "random", "epochs": 3}
    params = TypeAdapter(jobs.module("pretrain").params_type(raw)).validate_python(raw)
    assert TypeAdapter(type(params)).dump_python(params, mode="json")["epochs"] == 0


def test_shares_of_labels_decide_which_numbers_a_stage_ends_with() -> None:
    raw = {"dataset": "mnist5k", "protocol": "small", "settings": {"percents": [0.5, 10]}}
    params = typed("semi_supervised", raw).validate_python(raw)
    assert [metric.name for metric in jobs.metrics("semi_supervised", params)] == ["labels_0.5/top1", "labels_10/top1"]
    linear = typed("linear", {}).validate_python({"dataset": "mnist5k"})
    assert jobs.metrics("linear", linear) == jobs.module("linear").METRICS
