"""What an expert says of a pipeline: each rule on the file that breaks it, and silence on one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration import plan, preflight, spec
from orchestration.errors import SpecError
from orchestration.preflight import Note

PRETRAIN: dict[str, Any] = {
    "dataset": "mnist5k",
    "method": "moco_v2",
    "backbone": "resnet18",
    "width": 16,
    "image_size": 32,
    "settings": {"queue_size": 1024, "blur_p": 0.0},
}
SIZES = {"mnist5k": 4000}


def load(folder: Path, pretrain: dict[str, Any], resources: dict[str, Any] | None = None, **others: Any) -> Any:
    stages = {"pretrain": {"params": pretrain, "resources": resources or {}}}
    stages |= {name: {"needs": ["pretrain"], "params": params} for name, params in others.items()}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}))
    return spec.load(str(path))


def notes(folder: Path, changes: dict[str, Any], **others: Any) -> list[tuple[str, str]]:
    found = preflight.examine(load(folder, {**PRETRAIN, **changes}, **others), SIZES)
    return [(note.level, note.place) for note in found]


def test_a_sound_pipeline_is_passed_in_silence(tmp_path: Path) -> None:
    assert notes(tmp_path, {}, linear={"dataset": "mnist5k", "protocol": "moco"}) == []


@pytest.mark.parametrize("name", ["methods", "quickstart"])
def test_a_shipped_small_pipeline_is_passed_in_silence(name: str) -> None:
    assert preflight.examine(spec.load(name), SIZES) == []


def test_a_range_of_workers_must_share_the_batch_and_should_share_its_statistics(tmp_path: Path) -> None:
    asked = {"workers": {"min": 2, "max": 8}}
    whole = {**PRETRAIN, "sync_bn": True, "settings": {**PRETRAIN["settings"], "shuffle_bn": False}}
    assert preflight.examine(load(tmp_path, whole, asked), SIZES) == []
    (note,) = preflight.examine(load(tmp_path, PRETRAIN, asked), SIZES)
    assert (note.level, note.place) == ("warn", "stages.pretrain.resources.workers")
    assert "batch norm sees a worker's share" in note.fact
    odd = {**whole, "batch": 250, "lr": 0.03}
    (note,) = preflight.examine(load(tmp_path, odd, {"workers": {"min": 3, "max": 4}}), SIZES)
    assert (note.level, note.hint) == ("refuse", "able: 1, 2, 5, 10, 25, 50")
    assert note.fact == "no number from 3 to 4 shares the batch evenly"


@pytest.mark.parametrize(
    ("changes", "level", "place"),
    [
        ({"settings": {"queue_size": 4001, "blur_p": 0.0}}, "warn", "params.settings.queue_size"),
        ({"settings": {"queue_size": 1024}}, "warn", "params.settings.blur_p"),
        (
            {"settings": {"blur_p": 0.0, "queue_size": 64, "crop_scale": [0.05, 1.0]}},
            "warn",
            "params.settings.crop_scale",
        ),
        ({"batch": 4001, "lr": 0.3}, "refuse", "params.batch"),
        ({"batch": 2048}, "warn", "params.lr"),
        ({"settings": {"queue_size": 64, "blur_p": 0.0, "bn_splits": 3}}, "refuse", "params.settings.bn_splits"),
        ({"batch": 16, "lr": 0.03}, "warn", "params.lr"),
        ({"sync_bn": True}, "refuse", "params.sync_bn"),
        (
            {"accumulate": 64, "settings": {"queue_size": 64, "blur_p": 0.0, "bn_splits": 8}},
            "refuse",
            "params.settings.bn_splits",
        ),
        ({"method": "clsa", "accumulate": 2}, "refuse", "params.accumulate"),
        (
            {"sync_bn": True, "settings": {"queue_size": 64, "blur_p": 0.0, "shuffle_bn": False, "bn_splits": 2}},
            "refuse",
            "params.sync_bn",
        ),
        (
            {"method": "simclr", "settings": {"blur_p": 0.0}, "batch": 256, "optimizer": "sgd", "decay_vectors": True},
            "warn",
            "params.decay_vectors",
        ),
    ],
    ids=str,
)
def test_each_rule_names_the_line(tmp_path: Path, changes: dict[str, Any], level: str, place: str) -> None:
    assert notes(tmp_path, changes) == [(level, f"stages.pretrain.{place}")]


def test_parts_of_a_batch_are_equal_on_every_worker(tmp_path: Path) -> None:
    found = preflight.examine(load(tmp_path, {**PRETRAIN, "accumulate": 128}, {"workers": 4}), SIZES)
    assert [(note.level, note.place, note.hint) for note in found] == [
        ("refuse", "stages.pretrain.params.accumulate", "such as 64")
    ]
    assert notes(tmp_path, {"accumulate": 8}) == []


def test_a_batch_is_shared_evenly(tmp_path: Path) -> None:
    (note,) = preflight.examine(load(tmp_path, PRETRAIN, {"workers": 3}), SIZES)
    assert (note.level, note.hint) == ("refuse", "such as 255")
    assert preflight.examine(load(tmp_path, PRETRAIN, {"workers": 2}), SIZES) == []


@pytest.mark.parametrize(
    ("changes", "silent"),
    [({"batch": 128, "lr": 0.015}, True), ({"batch": 1024, "lr": 0.06}, True), ({"batch": 256, "lr": 0.3}, True)],
)
def test_a_rate_scaled_by_either_rule_or_chosen_at_the_recipes_batch_is_fine(
    tmp_path: Path, changes: dict[str, Any], silent: bool
) -> None:
    assert (notes(tmp_path, changes) == []) is silent


@pytest.mark.parametrize(
    ("method", "protocol", "warned"),
    [
        ("moco_v2", "moco", False),
        ("moco_v2", "simclr", True),
        ("leoclr", "clsa", False),
        ("random", "moco", False),
        ("simclr", "moco", True),
        ("simclr", "simclr", False),
        ("simclr", "small", False),
    ],
)
def test_a_protocol_made_for_other_features_is_warned_of(
    tmp_path: Path, method: str, protocol: str, warned: bool
) -> None:
    changes: dict[str, Any] = {"method": method, "settings": {}, "image_size": 96, "batch": 256, "lr": 0.2}
    if method in ("moco_v2", "leoclr"):
        changes["settings"] = {"queue_size": 64}
    found = notes(tmp_path, changes, linear={"dataset": "mnist5k", "protocol": protocol})
    assert found == ([("warn", "stages.linear.params.protocol")] if warned else [])


def test_a_changed_batch_without_its_rate_is_warned_of(tmp_path: Path) -> None:
    linear: dict[str, Any] = {"dataset": "mnist5k", "protocol": "moco", "settings": {"batch": 2048}}
    assert notes(tmp_path, {}, linear=linear) == [("warn", "stages.linear.params.settings.lrs")]
    linear["settings"]["lrs"] = [240.0]
    assert notes(tmp_path, {}, linear=linear) == []


@pytest.mark.parametrize(
    ("kind", "dataset", "refused"),
    [
        ("linear", "digit_scenes", True),
        ("linear", "digits", False),
        ("detection", "digits", True),
        ("detection", "digit_scenes", False),
    ],
)
def test_classes_are_not_asked_of_boxes_nor_boxes_of_classes(
    tmp_path: Path, kind: str, dataset: str, refused: bool
) -> None:
    found = notes(tmp_path, {}, **{kind: {"dataset": dataset, "protocol": "small"}})
    assert found == ([("refuse", f"stages.{kind}.params.dataset")] if refused else [])
    assert notes(tmp_path, {"dataset": "digit_scenes"}) == []  # a pre-training reads neither
    supervised = {"method": "supervised", "dataset": "digit_scenes", "settings": {}, "lr": 0.1}
    assert notes(tmp_path, supervised) == [("refuse", "stages.pretrain.params.dataset")]


def test_bf16_where_there_is_no_gpu_is_warned_of(tmp_path: Path) -> None:
    half = {**PRETRAIN, "precision": "bf16"}
    (note,) = preflight.examine(load(tmp_path, half, {"gpus_per_worker": 0}), SIZES)
    assert (note.level, note.place) == ("warn", "stages.pretrain.params.precision")
    assert preflight.examine(load(tmp_path, half, {"gpus_per_worker": 1}), SIZES) == []


def test_a_control_is_not_judged(tmp_path: Path) -> None:
    assert notes(tmp_path, {"method": "random", "settings": {}, "batch": 99999, "sync_bn": True}) == []


def test_what_imported_weights_were_trained_with_is_not_judged_but_their_evaluation_is(tmp_path: Path) -> None:
    pretrain = {"method": "imported", "settings": {"as_method": "simclr", "sha256": "0" * 64}}
    loaded = load(tmp_path, pretrain, linear={"dataset": "mnist5k", "protocol": "moco"})
    assert [note.place for note in preflight.examine(loaded, SIZES)] == ["stages.linear.params.protocol"]


def test_notes_of_all_arms_are_said_once(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    stages = {"pretrain": {"params": {**PRETRAIN, "sync_bn": True}}}
    path.write_text(yaml.safe_dump({"matrix": {"seed": [0, 1, 2]}, "stages": stages}))
    assert len(preflight.examine(spec.load(str(path)), SIZES)) == 1


def test_unknown_sizes_keep_the_rules_on_sizes_silent(tmp_path: Path) -> None:
    changes = {**PRETRAIN, "settings": {"queue_size": 65536, "blur_p": 0.0}}
    assert preflight.examine(load(tmp_path, changes), {}) == []


def test_the_first_refusal_is_raised_at_its_place() -> None:
    warn, stop = Note("warn", "stages.a", "slow", "faster"), Note("refuse", "stages.b", "contradiction", "choose")
    preflight.refuse([warn], "file.yaml")
    with pytest.raises(SpecError) as caught:
        preflight.refuse([warn, stop], "file.yaml")
    assert (caught.value.place, caught.value.fact, caught.value.hint) == (
        "file.yaml: stages.b",
        "contradiction",
        "choose",
    )


def test_checkpoints_that_do_not_fit_the_disk_are_refused(tmp_path: Path) -> None:
    loaded = load(tmp_path, {**PRETRAIN, "backbone": "resnet50", "width": 64})
    made = plan.make(loaded, digests={"mnist5k": "0" * 64}, past=[], results_version=1)
    # ResNet-50 without its classifier: 23.5 M weights; with velocity and slow copy in float32: 282 MB, four times
    assert preflight.disk(made, int(1.13e9)) == []
    (note,) = preflight.disk(made, int(1.12e9))
    assert note.level == "refuse"
    assert note.fact == "checkpoints need about 1.1 GB, 1.1 GB are free"
