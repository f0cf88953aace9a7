"""Fill a home with thousands of runs: a submission as the product records it, multiplied inside MLflow's own tables.

    python -m benchmarks.many_runs HOME [--runs 10000] [--pipeline quickstart]

The real submission is the newest, and a plan finds all of it done; its copies are older, of the same pipeline, and have
fingerprints of their own. Every run has 40 params and 12 metrics. Writing as many through MLflow takes 20 minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from leoclr import checkpoint
from orchestration import records, spec
from orchestration.plan import Plan
from orchestration.prepare import prepare
from orchestration.records import Point
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store

PARAMS, METRICS = 40, 12  # of each run, in all
HOUR_MS = 3_600_000  # between two submissions

_COPY = (  # each copies the rows of one submission, `copy(text)` putting the copy's ids in place of the real ones
    """INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
    end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)
    SELECT copy(run_uuid), name, source_type, source_name,
    entry_point_name, user_id, status, start_time - :back_ms, end_time - :back_ms, source_version, lifecycle_stage,
    copy(artifact_uri), experiment_id FROM real_runs""",
    "INSERT INTO tags (key, value, run_uuid) SELECT key, copy(value), copy(run_uuid) FROM real_tags",
    "INSERT INTO params (key, value, run_uuid) SELECT key, value, copy(run_uuid) FROM real_params",
    """INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
    SELECT key, value, timestamp - :back_ms, step, is_nan, copy(run_uuid) FROM real_latest_metrics""",
    """INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid)
    SELECT key, value, timestamp - :back_ms, step, is_nan, copy(run_uuid) FROM real_metrics""",
)
_PATHS = (("experiments", "artifact_location"), ("runs", "artifact_uri"))  # what names the home
_TABLES = ("runs", "tags", "params", "latest_metrics", "metrics")


def fill(home: Home, runs: int, pipeline: str = "quickstart") -> Plan:
    """Record `pipeline` as finished in `home`, and copies of it until there are about `runs` runs; return its plan.

    A pipeline with one stage makes many submissions, one with many stages few. Raises: StoreError.
    """
    loaded = spec.load(pipeline)
    made = prepare(loaded, home, None)
    submit(Store.open(home), loaded, made)
    multiply(home.database, runs)
    return made


def copied(home: Home, to: Home) -> None:
    """Copy a home into a folder that is not there yet, as if it had been filled there."""
    shutil.copytree(home.path, to.path)
    with closing(sqlite3.connect(to.database)) as connection, connection:
        for table, column in _PATHS:
            statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            connection.execute(statement, (f"{home.path}/", f"{to.path}/"))


def submit(store: Store, loaded: PipelineSpec, made: Plan) -> str:
    """Record every stage of a plan as finished, through the store's own methods; return the submission's run."""
    labels = {arm.name: arm.labels for arm in loaded.arms}
    parent = store.begin_submission(made, title=loaded.title, spec_yaml=loaded.yaml, arm_labels=labels, resume=None)
    for stage in made.stages:
        arm = labels[stage.arms[0]]
        run_id = store.begin_stage(stage, parent=parent, pipeline=made.pipeline, arm_labels=arm, resume=None)
        for each in stage.arms:
            store.record_arm(parent, each, stage.name, run_id)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, "draft")
            draft.mkdir()
            (draft / "backbone.safetensors").write_bytes(stage.fingerprint.encode())
            result = Path(folder, "result")
            checkpoint.seal(draft, result, fingerprint=stage.fingerprint, kind=stage.kind, ended_ms=0)
            store.log_points(run_id, [Point(f"loss_{i}", 1 / (i + 1), 100, 1) for i in range(METRICS - 1)])
            begun_ms = int(store.stage_runs([run_id])[run_id].tags[records.ATTEMPT_MS])
            store.finish_stage(run_id, metrics={"top1": 90.0}, result=result, ended_ms=begun_ms + 60_000)
    store.end(parent, "FINISHED")
    return parent


def multiply(database: Path, runs: int) -> None:
    """Add older submissions like the only one in a SQLite file of MLflow's until it has about `runs` runs."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (there,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        _pad(connection)
        for table in _TABLES:
            connection.execute(f"CREATE TEMP TABLE real_{table} AS SELECT * FROM {table}")
        texts = f"run_uuid FROM runs UNION SELECT value FROM tags WHERE key = '{records.FINGERPRINT}'"
        ids = [text for (text,) in connection.execute(f"SELECT {texts}")]
        attempts = {row[0] for row in connection.execute("SELECT value FROM tags WHERE key = ?", [records.ATTEMPT_MS])}
        for number in range(1, round(runs / there)):
            back_ms = number * HOUR_MS
            renamed = {each: hashlib.sha256(f"{number}{each}".encode()).hexdigest()[: len(each)] for each in ids}
            renamed |= {each: str(int(each) - back_ms) for each in attempts}
            connection.create_function("copy", 1, lambda text, known=renamed: _renamed(text, known), deterministic=True)
            for statement in _COPY:
                connection.execute(statement, {"back_ms": back_ms} if ":back_ms" in statement else {})


def _renamed(text: str | None, known: dict[str, str]) -> str | None:
    """Put new ids in place of the real ones, in an id, in JSON that holds ids, and in the path of the artifacts."""
    if text is None or text in known:
        return known.get(text or "", text)
    if text.startswith(('["', '{"')):
        return json.dumps(_within(json.loads(text), known))
    if text.startswith("file:"):
        return "/".join(known.get(part, part) for part in text.split("/"))
    return text


def _within(value: object, known: dict[str, str]) -> object:
    if isinstance(value, list):
        return [_within(each, known) for each in value]
    if isinstance(value, dict):
        return {key: _within(each, known) for key, each in value.items()}
    return known.get(value, value) if isinstance(value, str) else value


def _pad(connection: sqlite3.Connection) -> None:
    """Give every stage that has fewer than 40 params more of them."""
    counts = connection.execute("SELECT run_uuid, count(*) FROM params GROUP BY run_uuid").fetchall()
    rows = [(f"padding_{i:02d}", str(i), run) for run, count in counts for i in range(PARAMS - count)]
    connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows)


def main() -> None:
    """Fill the home that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--pipeline", default="quickstart")
    asked = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    fill(Home(asked.home.absolute()), asked.runs, asked.pipeline)


if __name__ == "__main__":
    main()
