"""An imported file is a finished run that planning finds by the sha256 of the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from jobs.inputs import BACKBONE
from leoclr import backbones, checkpoint
from orchestration import importing, look, prepare, spec, storage
from orchestration.errors import FileProblem, NotFound
from orchestration.importing import Imported, Published
from orchestration.plan import State
from orchestration.storage import Home
from orchestration.tracking import Store

EVALUATION = """
  linear:
    needs: [pretrain]
    params: {dataset: digits}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    trunk = backbones.build("resnet18", width=2)
    state = {f"module.encoder_q.{key}": weight for key, weight in trunk.state_dict().items()}
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state}, tmp_path / "moco.pth.tar")
    return tmp_path / "moco.pth.tar"


def register(file: Path, home: Home, store: Store, as_method: str = "moco_v2") -> Imported:
    published = Published(dataset="imagenet", epochs=200, batch=256)
    return importing.register(file, as_method=as_method, published=published, home=home, store=store)


def test_the_run_is_finished_and_tells_where_it_comes_from(file: Path, home: Home, store: Store) -> None:
    done = register(file, home, store)
    assert done.is_new
    assert done.summary.startswith("moco.pth.tar as moco_v2, layout moco: resnet18 of width 2 with the imagenet stem")
    run = store.stage_runs([done.run_id])[done.run_id]
    assert (run.status, run.kind, run.params["method"]) == ("FINISHED", "pretrain", "imported")
    facts = json.loads(run.tags["leoclr.import"])
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts | {"sha256": ""} == {
        "file": "moco.pth.tar", "as_method": "moco_v2", "sha256": "", "layout": "moco", "backbone": "resnet18",
        "width": 2, "stem": "imagenet", "left_out": [], "dataset": "imagenet", "epochs": 200, "batch": 256,
    }  # fmt: skip
    trunk = checkpoint.load_backbone(store.fetch(done.run_id, BACKBONE))
    wanted = torch.load(file, weights_only=True)["state_dict"]
    for key, weight in trunk.state_dict().items():
        torch.testing.assert_close(weight, wanted[f"module.encoder_q.{key}"], rtol=0, atol=0)
    assert next(look.logs(store, home, done.run_id)).startswith("imported moco.pth.tar as moco_v2")
    (submission,) = look.status(store, home, done.run_id)
    assert (submission.state, submission.title) == ("done", "moco.pth.tar as moco_v2")
    assert [stage.state for stage in submission.stages] == ["done"]


def test_a_pipeline_with_the_printed_stage_finds_it_done(file: Path, home: Home, store: Store, tmp_path: Path) -> None:
    done = register(file, home, store)
    (tmp_path / "mine.yaml").write_text(done.stage + EVALUATION)
    others = ["pretrain.params.epochs=3", "pretrain.params.dataset=mnist5k", "matrix.seed=[0, 1]"]
    for changes in ([], others):
        made = prepare.prepare(spec.load(str(tmp_path / "mine.yaml"), changes), home, store)
        states = [(stage.name, stage.state, stage.run_id) for stage in made.stages if stage.name == "pretrain"]
        assert states == [("pretrain", State.DONE, done.run_id)]
        assert {stage.state for stage in made.stages if stage.name == "linear"} == {State.TODO}


def test_it_is_imported_once_whatever_the_file_is_called(file: Path, home: Home, store: Store) -> None:
    first = register(file, home, store)
    again = register(file.rename(file.with_name("renamed.pth")), home, store)
    assert (again.run_id, again.is_new, again.stage) == (first.run_id, False, first.stage)
    assert len(store.past_runs()) == 1
    other = register(file.with_name("renamed.pth"), home, store, as_method="clsa")
    assert other.run_id != first.run_id


def test_a_pipeline_without_the_file_is_one_clear_error(file: Path, home: Home, store: Store, tmp_path: Path) -> None:
    done = register(file, home, store)
    (tmp_path / "mine.yaml").write_text(done.stage.replace(storage.sha256(file), "f" * 64) + EVALUATION)
    with pytest.raises(NotFound, match="stage pretrain: `moco_v2` with sha256 ffffffffffff... is not") as caught:
        prepare.prepare(spec.load(str(tmp_path / "mine.yaml")), home, store)
    assert caught.value.hint == "leoclr-ops import FILE --as moco_v2"


def test_a_lost_artifact_is_imported_again(file: Path, home: Home, store: Store) -> None:
    first = register(file, home, store)
    store.fetch(first.run_id, BACKBONE).write_bytes(b"damaged")
    again = register(file, home, store)
    assert again.is_new
    checkpoint.load_backbone(store.fetch(again.run_id, BACKBONE))


def test_a_killed_import_is_finished_by_the_next(
    file: Path, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "finish_stage", killed)
        with pytest.raises(KeyboardInterrupt):
            register(file, home, store)
    done = register(file, home, store)
    assert done.is_new
    assert {run.status for run in store.past_runs()} == {"FINISHED"}


def test_what_cannot_be_imported_is_one_clear_error(file: Path, home: Home, store: Store) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*none\.pth"):
        register(file.with_name("none.pth"), home, store)
    with pytest.raises(FileProblem, match="--as: no method can be called `MoCo v2`"):
        register(file, home, store, as_method="MoCo v2")
    file.write_bytes(b"nothing")
    with pytest.raises(FileProblem, match=r"moco\.pth\.tar: it "):
        register(file, home, store)
    assert store.past_runs() == []
