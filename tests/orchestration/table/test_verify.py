"""Every link from the data to the metric is looked at: break one, and it is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestration import records
from orchestration.records import Point
from orchestration.storage import Home
from orchestration.table.collect import collect
from orchestration.table.spec import TableSpec
from orchestration.table.verify import defects
from orchestration.tracking import Store
from tests.orchestration import tracked

KNN, PRETRAIN = "knn leoclr seed=0", "pretrain leoclr seed=0"


@pytest.fixture
def table(tmp_path: Path) -> TableSpec:
    return tracked.table(tmp_path)


@pytest.fixture
def runs(table: TableSpec, store: Store, tmp_path: Path) -> dict[str, str]:
    return tracked.finish(store, tmp_path)


def found(table: TableSpec, store: Store) -> list[str]:
    return list(defects(collect(table, store), store))


def artifact(home: Home, run_id: str, name: str) -> Path:
    [path] = [path for path in home.artifacts.rglob(name) if run_id in path.parts]
    return path


def test_a_sound_table_has_no_defect(table: TableSpec, runs: dict[str, str], store: Store) -> None:
    assert len(runs) == 8
    assert found(table, store) == []


def test_a_missing_cell_is_a_defect_unless_the_file_says_why(table: TableSpec, store: Store) -> None:
    assert found(table, store) == ["LeOCLR, kNN: not run", "MoCo-v2, kNN: not run"]


@pytest.mark.parametrize("name", [KNN, PRETRAIN])
def test_a_changed_file_is_found_though_its_size_and_time_are_the_same(
    name: str, table: TableSpec, runs: dict[str, str], home: Home, store: Store
) -> None:
    store.past_runs()  # by now every file is known
    path = artifact(home, runs[name], "backbone.safetensors")
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(b"W" + content[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert found(table, store) == [f"run {runs[name][:8]} ({name}): an artifact is damaged (backbone.safetensors)"]


def test_a_file_that_is_gone_is_told(table: TableSpec, runs: dict[str, str], home: Home, store: Store) -> None:
    artifact(home, runs[PRETRAIN], "metrics.json").unlink()
    assert found(table, store) == [f"run {runs[PRETRAIN][:8]} ({PRETRAIN}): an artifact is missing (metrics.json)"]


def test_a_number_that_the_result_does_not_have_is_told(table: TableSpec, runs: dict[str, str], store: Store) -> None:
    run = store.stage_runs([runs[KNN]])[runs[KNN]]
    true = run.metrics["top1"]
    store.log_points(runs[KNN], [Point(records.FINAL + "top1", 99.0, 0, run.started_ms + 9_000_000)])
    assert found(table, store) == [f"run {runs[KNN][:8]} ({KNN}): top1 is 99.0 in the store and {true} in its result"]


@pytest.mark.parametrize(
    ("name", "tag", "value", "fact"),
    [
        (KNN, records.FINGERPRINT, "f" * 16, "its fingerprint ffffffffffffffff is not that of what it records"),
        (KNN, records.DIGEST, "e" * 8, "2 recipes match"),  # other data is another recipe
        (PRETRAIN, records.RESULTS_VERSION, "1", "results version 1"),
    ],
)
def test_a_tag_that_was_changed_breaks_the_chain(
    name: str, tag: str, value: str, fact: str, table: TableSpec, runs: dict[str, str], store: Store
) -> None:
    store.set_tags(runs[name], {tag: value})
    lines = found(table, store)
    assert lines
    assert fact in lines[0]


def test_a_pretraining_that_is_gone_breaks_the_chain(table: TableSpec, runs: dict[str, str], store: Store) -> None:
    shown = collect(table, store)
    store._client.delete_run(runs[PRETRAIN])
    [line] = defects(shown, store)
    assert line.startswith(f"run {runs[KNN][:8]} ({KNN}): what it needs is not there: pretrain ")


def test_runs_of_an_older_version_leave_their_cell_empty(table: TableSpec, runs: dict[str, str], store: Store) -> None:
    for seed in (0, 1):
        store.set_tags(runs[f"knn leoclr seed={seed}"], {records.RESULTS_VERSION: "1"})
    [line] = found(table, store)
    assert line.startswith("LeOCLR, kNN: results version 1 in run ")
