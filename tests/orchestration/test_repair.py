"""What kills leave is repaired once: dead runs, drafts, torn snapshots, results that are whole but not recorded."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from jobs.journal import Journal
from leoclr import checkpoint
from orchestration import folders, repair
from orchestration.folders import StageFolder
from orchestration.records import StageRun
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.orchestration import tracked


@pytest.fixture
def run(store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageRun:
    """A stage whose process trained, sealed its result, and was killed with its driver before anything was recorded."""
    made, labels = tracked.planned(_pipeline(tmp_path)), {"method": "leoclr", "seed": "0"}
    arms = {arm: labels for stage in made.stages for arm in stage.arms}
    parent = store.begin_submission(made, title="", spec_yaml="a: 1\n", arm_labels=arms, resume=None)
    store.set_tags(parent, {"leoclr.pid_created": "1.0"})  # another process had this number
    stage = made.stages[0]
    run_id = store.begin_stage(stage, parent=parent, pipeline="tiny", arm_labels=labels, resume=None)
    folder = StageFolder.of(home, stage.fingerprint)
    with folder.held():
        folders.write_run(folder.path / "run.json", run_id)
    book = Journal(folder.path / "journal.jsonl", steps=3)
    for step in (1, 2, 3):
        book.step(step, {"loss": step / 10, "images": 8}, (1, 1, step / 3))
    book.close()
    draft = folder.path / "draft"
    draft.mkdir()
    (draft / "metrics.json").write_text(json.dumps({"knn_top1": 50.0}))
    (draft / "backbone.safetensors").write_bytes(b"weights")
    (draft / "params.json").write_text("{}")
    checkpoint.seal(draft, folder.path / "result", fingerprint=stage.fingerprint, ended_ms=time.time_ns() // 1_000_000)
    return store.stage_runs([run_id])[run_id]


def _pipeline(folder: Path) -> Path:
    tracked.table(folder)
    return folder


def path_of(run: StageRun, home: Home) -> Path:
    return home.stage(run.tags["leoclr.fingerprint"])


def test_a_sealed_result_is_recorded_with_its_whole_history(run: StageRun, store: Store, home: Home) -> None:
    lines = list(repair.repair(home, store))
    assert lines[0].startswith(f"ended run {run.run_id[:8]}: process {os.getpid()} on ")
    assert lines[-1] == f"recorded the result of {run.stage} {run.arm}, run {run.run_id[:8]}"
    (after,) = store.stage_runs([run.run_id]).values()
    assert (after.status, after.metrics["knn_top1"]) == ("FINISHED", 50.0)
    assert store.history([run.run_id], "loss") == {run.run_id: [(1, 0.1), (2, 0.2), (3, 0.3)]}
    assert set(store.check(run.run_id)) == {"metrics.json", "backbone.safetensors", "params.json"}
    assert not (path_of(run, home) / "result").exists()
    assert list(repair.repair(home, store)) == []


def test_a_damaged_line_is_told_with_the_result(run: StageRun, store: Store, home: Home) -> None:
    book = path_of(run, home) / "journal.jsonl"
    book.write_bytes(book.read_bytes().replace(b'"s":2', b'"r":2'))
    assert list(repair.repair(home, store))[-1].endswith(
        f"run {run.run_id[:8]}; stages/{book.parent.name}: line 3 of the journal is damaged, its numbers are left out"
    )
    assert store.history([run.run_id], "loss") == {run.run_id: [(1, 0.1), (3, 0.3)]}


def test_what_is_left_of_a_recorded_result_goes(run: StageRun, store: Store, home: Home) -> None:
    path = path_of(run, home)
    list(repair.repair(home, store))
    for part in ("result", "checkpoints/00000002"):
        (path / part).mkdir(parents=True)
    (path / "result/manifest.json").write_text("{}")  # killed while it was removed
    title = f"{run.stage} {run.arm}"
    assert list(repair.repair(home, store)) == [
        f"removed result and checkpoints of {title}, whose result run {run.run_id[:8]} has"
    ]
    assert not (path / "result").exists() and not (path / "checkpoints").exists()


def test_drafts_and_torn_snapshots_go_and_all_else_stays(run: StageRun, store: Store, home: Home) -> None:
    path = path_of(run, home)
    shutil.rmtree(path / "result")  # not so far yet
    (path / "checkpoints/00000010").mkdir(parents=True)
    (path / "checkpoints/.draft-4711").mkdir()
    (path / ".result-4711").mkdir()
    for name in (".run.json.abcd1234", ".journal.sent.abcd1234", repair.SNAPSHOT, "alive.json"):
        (path / name).write_text("{")
    upload = home.artifacts / "x" / ".artifact.uploading.abcd"
    upload.parent.mkdir(parents=True)
    for draft, age_s in ((upload, 7200), (upload.with_suffix(".new"), 10)):
        draft.write_text("half")
        os.utime(draft, (time.time() - age_s,) * 2)
    lines = list(repair.repair(home, store))
    assert sum("which was not finished" in line for line in lines) == 7
    assert {each.name for each in path.iterdir()} == {
        "checkpoints", "journal.jsonl", "lock", "run.json", "worker.lock"
    }  # fmt: skip
    assert [each.name for each in (path / "checkpoints").iterdir()] == ["00000010"]
    assert [each.name for each in upload.parent.iterdir()] == [".artifact.uploading.new"]


def test_a_stage_that_somebody_is_at_work_on_is_left_alone(run: StageRun, store: Store, home: Home) -> None:
    path = path_of(run, home)
    (path / ".result-4711").mkdir()
    with StageFolder.of(home, path.name).held():
        assert not [line for line in repair.repair(home, store) if not line.startswith("ended")]
    assert (path / ".result-4711").exists() and (path / "result").exists()
