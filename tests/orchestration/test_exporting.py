"""A finished pre-training leaves as a file of another project; nothing else does, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from leoclr import backbones, checkpoint, formats
from orchestration import exporting, plan, spec
from orchestration.errors import FileProblem, NotFound, StoreError
from orchestration.storage import Home
from orchestration.tracking import Store

PIPELINE = """
stages:
  pretrain:
    params: {dataset: digits, method: moco_v2, backbone: resnet18, width: 2, stem: imagenet, image_size: 32}
  linear:
    needs: [pretrain]
    params: {dataset: digits}
"""


@pytest.fixture
def runs(home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the run ids of a submission whose pre-training is finished and whose evaluation was begun, by stage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(PIPELINE)
    loaded = spec.load("mine.yaml")
    made = plan.make(loaded, digests={"digits": "d"}, past=[], results_version=1)
    parent = store.begin_submission(made, title="t", spec_yaml="", arm_labels={"": {}}, resume=None)
    found = {"submission": parent}
    for stage in made.stages:
        found[stage.name] = store.begin_stage(stage, parent=parent, pipeline="mine", arm_labels={}, resume=None)
        store.record_arm(parent, "", stage.name, found[stage.name])
    draft = tmp_path / "draft"
    draft.mkdir()
    torch.manual_seed(0)
    trunk = backbones.build("resnet18", width=2)
    checkpoint.save_backbone(draft / "backbone.safetensors", trunk, name="resnet18", width=2, stem="imagenet")
    checkpoint.seal(draft, tmp_path / "result", fingerprint="f")
    store.finish_stage(found["pretrain"], metrics={}, result=tmp_path / "result", ended_ms=1)
    return found


def test_a_pretraining_is_written_under_a_name_of_its_own(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    run = runs["pretrain"]
    done = exporting.export(store, run[:8], "safetensors")
    assert done.path == Path(f"moco_v2-{run[:8]}.safetensors")
    assert str(done.path) in done.load
    torch.manual_seed(0)
    expected = backbones.build("resnet18", width=2).state_dict()
    torch.testing.assert_close(dict(formats.read(done.path).weights), expected, rtol=0, atol=0)
    assert exporting.export(store, run, "detectron2").path == Path(f"moco_v2-{run[:8]}.detectron2.pkl")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".export")]


def test_weights_that_are_not_finite_are_refused(
    runs: dict[str, str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = backbones.build("resnet18", width=2)
    trunk.bn1.running_var.fill_(torch.inf)
    path = tmp_path / "odd.safetensors"
    checkpoint.save_backbone(path, trunk, name="resnet18", width=2, stem="imagenet")
    monkeypatch.setattr(store, "fetch", lambda run_id, name: path)
    with pytest.raises(FileProblem, match=r"bn1\.running_var holds values that are not finite"):
        exporting.export(store, runs["pretrain"], "safetensors")


def test_only_force_overwrites(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    out = tmp_path / "mine.pkl"
    out.write_bytes(b"precious")
    with pytest.raises(FileProblem, match="there is a file already") as caught:
        exporting.export(store, runs["pretrain"], "detectron2", out=out)
    assert (out.read_bytes(), "--force" in caught.value.hint) == (b"precious", True)
    exporting.export(store, runs["pretrain"], "detectron2", out=out, force=True)
    assert out.read_bytes() != b"precious"


def test_other_runs_are_refused_with_the_one_that_is_meant(runs: dict[str, str], store: Store) -> None:
    short = runs["pretrain"][:8]
    with pytest.raises(NotFound, match="is of kind `linear`") as caught:
        exporting.export(store, runs["linear"], "timm")
    assert caught.value.hint == f"its pre-training: {short}"
    with pytest.raises(NotFound, match="is a submission") as caught:
        exporting.export(store, runs["submission"], "timm")
    assert caught.value.hint == f"its pre-training: {short} (pretrain)"
    with pytest.raises(NotFound, match="no run begins with"):
        exporting.export(store, "ffffffff", "timm")


def test_what_cannot_be_written_is_one_clear_error(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"timm has no resnet18 of width 2") as caught:
        exporting.export(store, runs["pretrain"], "timm")
    assert "safetensors" in caught.value.hint
    with pytest.raises(FileProblem, match=r"a detectron2 file ends in \.pkl"):
        exporting.export(store, runs["pretrain"], "detectron2", out=tmp_path / "mine.pth")
    with pytest.raises(FileProblem, match="it cannot be written: No such file or directory"):
        exporting.export(store, runs["pretrain"], "detectron2", out=tmp_path / "none" / "mine.pkl")
    store.fetch(runs["pretrain"], "backbone.safetensors").write_bytes(b"damaged")
    with pytest.raises(StoreError, match="damaged"):
        exporting.export(store, runs["pretrain"], "safetensors")
