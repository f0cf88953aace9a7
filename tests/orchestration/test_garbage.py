"""What `gc` lists: never what anything needs, whatever lies in the home and in the bucket."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration import garbage, mirror, records, storage
from orchestration.garbage import Spare
from orchestration.mirror import Mirror
from orchestration.storage import Home
from orchestration.table import verify
from orchestration.table.collect import collect
from orchestration.tracking import Store
from tests.orchestration import s3, tracked

DAY = 86400.0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


def listed(home: Home, store: Store, *, older_s: float = 0.0, superseded: bool = False) -> list[Spare]:
    return list(garbage.find(home, store, older_s=older_s, superseded=superseded))


def stage(home: Home, fingerprint: str) -> Path:
    """Write what a stage may leave in its folder."""
    folder = home.stage(fingerprint)
    for name in ("lock", "run.json", "journal.jsonl", "log.txt", "checkpoints/00000010/state.pt", "trials/a/log.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x" * 100)
    return folder


def is_sound(store: Store, folder: Path) -> bool:
    spec = tracked.table(folder)
    return list(verify.defects(collect(spec, store), store)) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tracked.table(tmp_path)
    return tmp_path


def test_a_finished_stage_may_go_and_its_table_stays(home: Home, store: Store, project: Path) -> None:
    runs = tracked.finish(store, project)
    prints = {run.fingerprint for run in store.past_runs()}
    folders = [stage(home, each) for each in prints]
    assert is_sound(store, project)
    found = listed(home, store)
    assert {each.place for each in found} == {str(folder) for folder in folders}
    assert all(each.bytes == 500 for each in found)
    assert listed(home, store, older_s=DAY) == []  # too young
    for each in found:
        each.drop()
    assert {path.name for path in folders[0].iterdir()} <= {"lock", "worker.lock"}
    assert is_sound(store, project)
    assert len(store.past_runs()) == len(runs)
    assert listed(home, store) == []


def test_what_goes_on_or_is_unknown_is_never_listed(home: Home, store: Store, project: Path) -> None:
    runs = tracked.finish(store, project)
    by_run = {run.run_id: run.fingerprint for run in store.past_runs()}
    stopped, failed, again, *_ = runs.values()
    for run_id, status in ((stopped, "KILLED"), (failed, "FAILED")):
        store._client.update_run(run_id, status=status)
    store._client.update_run(again, status="RUNNING")
    for run_id in (stopped, failed, again):
        stage(home, by_run[run_id])
    stage(home, "f" * 16)  # of another store
    assert listed(home, store) == []


def test_a_damaged_result_keeps_its_folder(home: Home, store: Store, project: Path) -> None:
    run_id = next(iter(tracked.finish(store, project).values()))
    fingerprint = next(run.fingerprint for run in store.past_runs() if run.run_id == run_id)
    stage(home, fingerprint)
    store.fetch(run_id, "backbone.safetensors").write_bytes(b"torn")
    assert listed(home, store) == []


def test_a_folder_that_is_taken_up_again_stays(home: Home, store: Store, project: Path) -> None:
    tracked.finish(store, project)
    folder = stage(home, store.past_runs()[0].fingerprint)
    (found,) = listed(home, store)
    with storage.locked(folder / "lock"):
        assert not found.drop()
    assert (folder / "checkpoints").exists()
    assert found.drop()
    assert not (folder / "checkpoints").exists()


def test_drafts_go_and_what_is_beside_them_stays(home: Home, store: Store) -> None:
    folder = stage(home, "f" * 16)
    for name in (".result-12", "checkpoints/.draft-12"):
        (folder / name).mkdir()
        (folder / name / "state.pt").write_text("half")
    found = listed(home, store)
    assert sorted(each.place.removeprefix(f"{folder}/") for each in found) == [".result-12", "checkpoints/.draft-12"]
    with storage.locked(folder / "worker.lock"):
        assert not any(each.drop() for each in found)
    assert all(each.drop() for each in found)
    assert (folder / "checkpoints" / "00000010" / "state.pt").exists()


def test_what_vanishes_meanwhile_belongs_to_a_stage_that_runs(
    home: Home, store: Store, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked.finish(store, project)
    folder, copy = stage(home, store.past_runs()[0].fingerprint), home.cached("d" * 64, "backbone.safetensors")
    copy.parent.mkdir(parents=True)
    copy.write_text("weights")
    for each in store.running()[0]:
        store.end(each.run_id, "FINISHED")
    assert len(listed(home, store)) == 2
    below = Path.rglob

    def and_write(self: Path, pattern: str) -> Iterator[Path]:
        yield from below(self, pattern)
        yield self / ".journal.jsonl.x7"  # that a writer has just renamed

    monkeypatch.setattr(Path, "rglob", and_write)
    assert listed(home, store) == []
    assert folder.exists()


def test_a_link_leads_nowhere(home: Home, store: Store, project: Path, tmp_path: Path) -> None:
    tracked.finish(store, project)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("x")
    folder = stage(home, store.past_runs()[0].fingerprint)
    (folder / "link").symlink_to(outside)
    (home.path / "stages" / "linked").symlink_to(outside)
    for each in listed(home, store):
        each.drop()
    assert (outside / "thesis.tex").exists()
    assert not (folder / "link").exists()


def test_copies_of_artifacts_go_unless_something_runs(home: Home, store: Store, project: Path) -> None:
    copy = home.cached("d" * 64, "backbone.safetensors")
    copy.parent.mkdir(parents=True)
    copy.write_text("weights")
    assert [each.place for each in listed(home, store)] == [str(copy.parent)]
    store.begin_submission(tracked.planned(project), title="", spec_yaml="a: 1\n", arm_labels={}, resume=None)
    assert listed(home, store) == []


def test_the_mirror_is_looked_at_below_its_prefix_only(
    home: Home, store: Store, project: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked.finish(store, project)
    done = store.past_runs()[0].fingerprint
    far = Mirror(s3.objects(address, "ann/"), home.path)
    monkeypatch.setattr(mirror, "of", lambda home: far)
    for key in (f"stages/{done}/run.json", f"stages/{done}/result/manifest.json", f"stages/{'f' * 16}/journal.jsonl"):
        far.objects.put(key, b"12345")
    s3.objects(address, "bob/").put(f"stages/{done}/run.json", b"bob's")
    far.objects.client.create_multipart_upload(**far.objects.at("stages/x"))
    found = listed(home, store)
    assert [each.place for each in found] == [f"s3://runs/ann/stages/{done}/", "s3://runs/ann/stages/x"]
    assert found[0].bytes == 10
    store._client.update_run(store.past_runs()[0].run_id, status="RUNNING")
    assert not found[0].drop()
    store._client.update_run(store.past_runs()[0].run_id, status="FINISHED")
    assert all(each.drop() for each in found)
    assert [each.key for each in far.objects.list("")] == [f"stages/{'f' * 16}/journal.jsonl"]
    assert s3.objects(address, "bob/").stat(f"stages/{done}/run.json") is not None
    assert listed(home, store) == []


def test_full_states_that_no_table_shows_go_only_where_asked(home: Home, store: Store, project: Path) -> None:
    older = with_states(store, project, _older(store, project))
    newer = with_states(store, project, tracked.finish(store, project))
    assert listed(home, store) == []
    found = listed(home, store, older_s=-DAY, superseded=True)  # their end is told as an hour ahead
    assert {each.place for each in found} == {f"run {run_id} checkpoint.pt" for run_id in older.values()}
    assert all(each.drop() for each in found)
    assert is_sound(store, project)
    assert all(run.reusable for run in store.past_runs() if run.run_id in newer.values())
    assert listed(home, store, older_s=-DAY, superseded=True) == []


def with_states(store: Store, folder: Path, runs: dict[str, str]) -> dict[str, str]:
    """Keep a full state with each run."""
    (folder / "checkpoint.pt").write_bytes(b"state")
    for run_id in runs.values():
        store.log_files(run_id, [folder / "checkpoint.pt"])
    return runs


def _older(store: Store, project: Path) -> dict[str, str]:
    """Finish the same stages once before, in a folder of their own."""
    older = project / "older"
    older.mkdir(exist_ok=True)
    tracked.table(older)
    return tracked.finish(store, older, seeds=(0,))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_needed_ever_goes(home: Home, store: Store, project: Path, seed: int) -> None:
    rng = random.Random(seed)
    with_states(store, project, tracked.finish(store, project))
    if rng.random() < 0.5:
        with_states(store, project, _older(store, project))
    for run in store.past_runs():
        fate = rng.choice(["done", "done", "KILLED", "FAILED", "RUNNING", "version"])
        if fate == "version":
            store.set_tags(run.run_id, {records.RESULTS_VERSION: "0"})
        elif fate != "done":
            store._client.update_run(run.run_id, status=fate)
        folder = stage(home, run.fingerprint)
        if rng.random() < 0.3:
            old = time.time() - 3 * DAY
            for path in (folder, *folder.rglob("*")):
                os.utime(path, (old, old))
    sound_before = {run.run_id for run in store.past_runs() if run.reusable}
    shown = cells(store, project)
    before = set(verify.defects(collect(tracked.table(project), store), store))
    older_s = rng.choice([-DAY, DAY])
    for each in listed(home, store, older_s=older_s, superseded=True):
        each.drop()
    assert cells(store, project) == shown
    assert set(verify.defects(collect(tracked.table(project), store), store)) == before
    after = {run.run_id: run for run in store.past_runs()}
    finished = {run.fingerprint for run in after.values() if run.reusable}
    for run in after.values():
        if run.fingerprint not in finished or any(
            other.status == "RUNNING" for other in after.values() if other.fingerprint == run.fingerprint
        ):
            assert (home.stage(run.fingerprint) / "checkpoints" / "00000010" / "state.pt").exists()
    lost = sound_before - {run_id for run_id, run in after.items() if run.reusable}
    assert not lost & {run_id for row in shown for run_ids in row for run_id in run_ids}


def cells(store: Store, project: Path) -> list[list[tuple[str, ...]]]:
    return [[tuple(cell.run_ids) for cell in row] for row in collect(tracked.table(project), store).cells]
