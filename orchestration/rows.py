"""A SQLite file of MLflow's, read directly: what its search would return, in a twentieth of the time.

MLflow turns every param, tag and metric of every run that it finds into an object of SQLAlchemy's, 30 us each: 2 ms a
run. And it has no way to ask for several fingerprints at once, so that a plan of 45 stages took 45 searches, each of
which looks at the fingerprints of all runs. Here a question is three statements, whatever it asks. The file is opened
read-only; all writing is MLflow's, but for the statistics that let SQLite choose the right index.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from orchestration import records
from orchestration.query import Query
from orchestration.records import RawRun

BUSY_S = 20.0  # a writer may hold the file so long; MLflow's own busy_timeout
LOOK_S = 0.2  # statistics are not worth waiting for
ROWS = 1000  # of each index that the statistics look at: 20 ms, where all rows of 10,000 runs take 2 s
FEW, MORE = 200, 4  # runs below which no index matters; growth since the last look that makes it stale: it estimates

# Columns that have not changed since MLflow 1.0.
_RUNS = (
    "SELECT run_uuid, status, start_time, end_time, artifact_uri FROM runs"
    " WHERE experiment_id = ? AND lifecycle_stage = 'active'"
)
_EXPERIMENT = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
_TAGS = "SELECT run_uuid, key, value FROM tags WHERE run_uuid IN (SELECT value FROM json_each(?))"
_METRICS = "SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN (SELECT value FROM json_each(?))"
_CURVES = (
    "SELECT run_uuid, step, value, is_nan FROM metrics"
    " WHERE key = ? AND run_uuid IN (SELECT value FROM json_each(?)) ORDER BY run_uuid, step, timestamp"
)

# Conditions on a run, each with its values.
_HAS_TAG = "(SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = ?) = ?"
_IS_AMONG = "run_uuid IN (SELECT value FROM json_each(?))"
_IS_OF = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value IN (SELECT value FROM json_each(?)))"
_READS = (
    "(SELECT json_extract(value, '$.dataset') FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = ?"
    " AND json_valid(value)) IN (SELECT value FROM json_each(?))"
)
_BEGINS = "run_uuid GLOB ?"
_HAS_STATUS = "status = ?"

_BY_START = "start_time DESC, run_uuid"
_BY_ATTEMPT = "(SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = ?) DESC, run_uuid"


def file_of(uri: str) -> Path | None:
    """Return the SQLite file that a tracking URI means, if it can be read here.

    None where it means something else, or where MLflow's tables are not what this version knows: ask MLflow then.
    """
    start, _, name = uri.partition("sqlite:///")
    if start or not name or "?" in name:
        return None
    path = Path(name)
    try:
        with _reading(path) as connection:
            for statement in (_EXPERIMENT, _RUNS, _TAGS, _METRICS):
                connection.execute(f"{statement} LIMIT 0", ["[]"])
    except sqlite3.Error:
        return None
    return path


def experiment(path: Path, name: str) -> tuple[str, str] | None:
    """Return the id of an experiment and the place of its artifacts; None where it is not there, or deleted."""
    with _reading(path) as connection:
        found = connection.execute(_EXPERIMENT, [name]).fetchone()
    return (str(found[0]), str(found[1])) if found else None


def search(path: Path, experiment: str, query: Query) -> list[RawRun]:
    """Return what `query.search` returns. Raises: sqlite3.Error; StoreError where the query is not safe."""
    conditions = list(_conditions(query.safe()))
    order, key = (_BY_ATTEMPT, [records.ATTEMPT_MS]) if query.by_attempt else (_BY_START, [])
    words = "".join(f" AND {words}" for words, _ in conditions)
    values = [int(experiment), *(value for _, values in conditions for value in values), *key]
    limit = -1 if query.newest is None else query.newest
    with _reading(path) as connection:
        connection.execute("BEGIN")  # all statements see one moment
        rows = connection.execute(f"{_RUNS}{words} ORDER BY {order} LIMIT ?", [*values, limit]).fetchall()
        ids = json.dumps([row[0] for row in rows])
        tags = _by_run(connection.execute(_TAGS, [ids]))
        metrics = _by_run(_numbers(connection.execute(_METRICS, [ids]))) if query.metrics else {}
    return [
        RawRun(run_id, status, started_ms, ended_ms, place, metrics.get(run_id, {}), tags.get(run_id, {}))
        for run_id, status, started_ms, ended_ms, place in rows
    ]


def history(path: Path, run_ids: Sequence[str], key: str) -> dict[str, list[tuple[int, float]]]:
    """Return the curve of a metric as (step, value) by run, in the order of the steps. Raises: sqlite3.Error."""
    found: dict[str, list[tuple[int, float]]] = {}
    with _reading(path) as connection:
        for run_id, step, value, is_nan in connection.execute(_CURVES, [key, json.dumps(run_ids)]):
            found.setdefault(run_id, []).append((step, math.nan if is_nan else value))
    return found


def keep_statistics(path: Path) -> None:
    """Let SQLite look at how the rows are spread, if it has not or there are many more by now.

    Without, it scans where it could look up: in MLflow's pages, a list sorted by a metric took 50 times as long.
    """
    try:
        with closing(sqlite3.connect(path, timeout=LOOK_S)) as connection:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
            if runs >= FEW and runs >= MORE * _counted(connection):
                connection.execute(f"PRAGMA analysis_limit = {ROWS}")
                connection.execute("ANALYZE")
                connection.commit()
    except sqlite3.Error:  # somebody is writing, or the file cannot be written: the next opening will do
        return


def _counted(connection: sqlite3.Connection) -> int:
    """Return how many runs there were when SQLite last looked; 0 where it never did."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
        return 0
    rows = connection.execute("SELECT stat FROM sqlite_stat1 WHERE tbl = 'runs' AND stat IS NOT NULL").fetchall()
    return max((int(stat.split()[0]) for (stat,) in rows), default=0)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
        yield connection


def _conditions(query: Query) -> Iterator[tuple[str, list[str]]]:
    """Yield what a run must meet, as SQL and the values in it."""
    for key, value in query.tags.items():
        yield _HAS_TAG, [key, value]
    if query.fingerprints is not None:
        yield _IS_OF, [records.FINGERPRINT, json.dumps(query.fingerprints)]
    if query.run_ids is not None:
        yield _IS_AMONG, [json.dumps(query.run_ids)]
    if query.datasets is not None:
        yield _READS, [records.PARAMS, json.dumps(query.datasets)]
    if query.begins:
        yield _BEGINS, [f"{query.begins}*"]
    if query.status:
        yield _HAS_STATUS, [query.status]


def _by_run(rows: Iterator[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return found


def _numbers(rows: Iterator[Sequence[Any]]) -> Iterator[tuple[str, str, float]]:
    for run_id, key, value, is_nan in rows:
        yield run_id, key, math.nan if is_nan else value
