"""The file read directly answers as MLflow's own search does, and stands aside where it cannot."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from orchestration import query, records, rows
from orchestration.errors import StoreError
from orchestration.query import Query
from orchestration.records import Point, RawRun
from orchestration.storage import Home
from orchestration.tracking import Store

STAGE = {records.ROLE: "stage"}
PARAMS = (
    '{"dataset": "digits", "seed": 0}',
    '{"dataset": "mnist5k", "like": {"dataset": "digits"}}',
    '{"dataset": "digits", "settings": {}}',
    '{"seed": 0, "like": {"dataset": "digits"}}',
    '{"dataset": "digits"',
    '["dataset", "digits"]',
)


@pytest.fixture
def many(store: Store, home: Home) -> list[str]:
    """Return the ids of runs of two pipelines in every state, one of them deleted, each second begun later."""
    ids: list[str] = []
    for number in range(12):
        role = "stage" if number % 3 else "submission"
        tags = {
            records.ROLE: role,
            records.PIPELINE: "one" if number % 2 else "two",
            records.FINGERPRINT: f"f{number % 5}",
            records.ATTEMPT_MS: str(1_790_000_000_000 - number),
            records.PARAMS: PARAMS[number % len(PARAMS)],
            "note": 'it\'s "odd" %',
        }
        run = store._client.create_run(store._experiment, start_time=1000 + number // 2, tags=tags)
        ids.append(run.info.run_id)
        store.log_points(ids[-1], [Point("loss", number / 7, 1, 1), Point("nan", math.nan, 1, 1)])
        if number % 4:
            store._client.set_terminated(ids[-1], status="FINISHED" if number % 4 > 1 else "FAILED", end_time=9000)
    store._client.delete_run(ids[5])
    return ids


QUERIES = [
    Query(),
    Query(tags=STAGE),
    Query(tags=STAGE | {records.PIPELINE: "one"}, newest=2),
    Query(tags=STAGE, fingerprints=("f1", "f4", "absent")),
    Query(fingerprints=()),
    Query(run_ids=()),
    Query(status="RUNNING"),
    Query(by_attempt=True, newest=3),
    Query(tags={records.ROLE: "submission"}, by_attempt=True),
    Query(datasets=("digits",)),
    Query(tags=STAGE, datasets=("digits",), newest=2),
    Query(datasets=()),
    Query(begins="a"),
    Query(tags={records.ROLE: "nobody"}),
]


@pytest.mark.parametrize("asked", QUERIES, ids=str)
def test_the_file_says_what_mlflow_says(asked: Query, store: Store, home: Home, many: list[str]) -> None:
    asked = dataclasses.replace(asked, metrics=True)
    ours = rows.search(home.database, store._experiment, asked)
    theirs = query.search(store._client, store._experiment, asked)
    assert [_plain(raw) for raw in ours] == [_plain(raw) for raw in theirs]


def test_runs_by_id_come_in_both_ways(
    store: Store, home: Home, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "IDS_A_SEARCH", 3)  # so that several searches are put together again
    asked = Query(run_ids=(*many, "0" * 32), metrics=True)
    ours = rows.search(home.database, store._experiment, asked)
    theirs = query.search(store._client, store._experiment, asked)
    assert len(ours) == 11
    assert {raw.run_id: _plain(raw) for raw in ours} == {raw.run_id: _plain(raw) for raw in theirs}
    assert [raw.started_ms for raw in theirs] == sorted((raw.started_ms for raw in theirs), reverse=True)


def test_runs_by_data_set_come_in_both_ways(store: Store, home: Home, many: list[str]) -> None:
    asked = Query(datasets=("mnist5k", "digits", "absent"))
    ours = rows.search(home.database, store._experiment, asked)
    theirs = query.search(store._client, store._experiment, asked)
    assert {raw.run_id for raw in ours} == {many[at] for at in (0, 1, 2, 6, 7, 8)}  # of some, params are no params
    assert {raw.run_id for raw in ours} == {raw.run_id for raw in theirs}


def _plain(raw: RawRun) -> RawRun:
    """NaN equals nothing, itself included."""
    return dataclasses.replace(raw, metrics={key: repr(value) for key, value in raw.metrics.items()})  # type: ignore[arg-type]


def test_metrics_are_read_where_they_are_asked_for(store: Store, home: Home, many: list[str]) -> None:
    without, with_them = (rows.search(home.database, store._experiment, Query(metrics=each)) for each in (False, True))
    assert {len(raw.metrics) for raw in without} == {0}
    assert {len(raw.metrics) for raw in with_them} == {2}


@pytest.mark.parametrize("word", ["x' or '1' = '1", "*", 'a"b', "../x"])
def test_a_word_cannot_leave_its_quotes(word: str, store: Store, home: Home) -> None:
    for asked in (
        Query(tags={records.PIPELINE: word}),
        Query(begins=word),
        Query(fingerprints=(word,)),
        Query(datasets=(word,)),
    ):
        with pytest.raises(StoreError, match="cannot be the name"):
            rows.search(home.database, store._experiment, asked)
        with pytest.raises(StoreError, match="cannot be the name"):
            query.search(store._client, store._experiment, asked)


def test_only_a_file_of_this_machine_with_mlflows_tables_is_read(home: Home, tmp_path: Path) -> None:
    assert rows.file_of(f"sqlite:///{home.database}") == home.database
    other = tmp_path / "other.db"
    shutil.copy(home.database, other)
    with sqlite3.connect(other) as connection:
        connection.execute("ALTER TABLE latest_metrics RENAME COLUMN is_nan TO nan")
    for uri in ("postgresql://db/mlflow", "http://host:5000", "sqlite:///", f"sqlite:///{home.database}?x=1"):
        assert rows.file_of(uri) is None
    assert rows.file_of(f"sqlite:///{tmp_path / 'absent.db'}") is None
    assert rows.file_of(f"sqlite:///{other}") is None  # MLflow changed its tables: its own search still works


def test_reading_changes_nothing(store: Store, home: Home) -> None:
    before = home.database.read_bytes()
    rows.search(home.database, store._experiment, Query())
    assert home.database.read_bytes() == before


def test_statistics_are_taken_when_they_matter_and_not_again(
    store: Store, home: Home, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.keep_statistics(home.database)
    assert _statistics(home.database) == {}  # few runs need none
    monkeypatch.setattr(rows, "FEW", 10)
    rows.keep_statistics(home.database)
    first = _statistics(home.database)
    assert first["runs"].startswith("12 ")
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE sqlite_stat1 SET stat = '4 1' WHERE tbl = 'runs'")
    rows.keep_statistics(home.database)
    assert _statistics(home.database)["runs"] == "4 1"  # three times as many: still good
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE sqlite_stat1 SET stat = '3 1' WHERE tbl = 'runs'")
    rows.keep_statistics(home.database)
    assert _statistics(home.database) == first


def test_a_database_that_somebody_writes_is_left_alone(
    store: Store, home: Home, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FEW", 10)
    with sqlite3.connect(home.database) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        rows.keep_statistics(home.database)
        writer.rollback()
    assert _statistics(home.database) == {}
    rows.keep_statistics(home.path / "absent.db")


def _statistics(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
            return {}
        return dict(connection.execute("SELECT tbl, stat FROM sqlite_stat1 WHERE tbl = 'runs'").fetchall())
