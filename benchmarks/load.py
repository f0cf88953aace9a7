"""Load: eight writers for minutes, 10,000 runs listed meanwhile, 64 submissions at once; on SQLite and PostgreSQL.

    python -m benchmarks.load [--minutes 10] [--submits 64] [--runs 10000] [--only sqlite|postgres] [--write FILE]

Each writer is a process that sends batches as a recorder does, six times as often. The submissions' stages do nothing,
all else is real. At the end every point that was sent and every run must be there, once: it fails where not.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import sqlalchemy
from mlflow.store.tracking import sqlalchemy_store as sqlalchemy_store  # an import that all processes share

import jobs
from benchmarks import load_submits, many_runs
from orchestration import provenance, spec
from orchestration.chaos import page
from orchestration.errors import StoreError
from orchestration.plan import Plan
from orchestration.prepare import prepare
from orchestration.records import Point
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.cluster_live import postgres

WRITERS, METRICS, STEPS = 8, 8, 25  # processes; metrics of a step and steps of a batch
EVERY_S = 0.5  # between two batches of a writer; a recorder sends one in 3 s
KEY = "load_"
STORES = "sqlite", "postgres"
FINISHED = "SELECT count(*) FROM runs WHERE status = 'FINISHED'"
COUNT = f"SELECT count(*) FROM metrics WHERE key LIKE '{KEY}%'"
_COLUMNS = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version, "
    "lifecycle_stage, artifact_uri, experiment_id",
    "tags": "key, value",
    "params": "key, value",
    "latest_metrics": "key, value, timestamp, step, is_nan",
    "metrics": "key, value, timestamp, step, is_nan",
}
_forked = multiprocessing.get_context("fork")  # imports are paid once


@dataclass(frozen=True, slots=True)
class Times:
    """What some calls took, in seconds, and how many failed."""

    what: str
    seconds: list[float]
    errors: int

    @property
    def row(self) -> str:
        """A line of the table."""
        cuts = (
            quantiles(self.seconds, n=100, method="inclusive") if len(self.seconds) > 1 else [*self.seconds, 0.0] * 99
        )
        shown = " | ".join(f"{1000 * value:.0f}" for value in (cuts[49], cuts[94], cuts[98], max(self.seconds)))
        return f"{self.what} | {len(self.seconds)} | {self.errors} | {shown}"


def write(home: Home, uri: str, until: float) -> tuple[list[float], int]:
    """Send batches of one run until then; return what each took, in seconds, and how many failed."""
    store = Store.open(home, uri)
    plan = Plan(pipeline="load", stages=(), arms={}, fingerprint=f"{os.getpid():016x}", total_estimate_s=None)
    run_id = store.begin_submission(plan, title="load", spec_yaml="", arm_labels={}, resume=None)
    seconds, errors = list[float](), 0
    while time.time() < until:
        began = time.monotonic()
        errors += _send(store, run_id, 1 + STEPS * len(seconds))
        seconds.append(time.monotonic() - began)
        time.sleep(max(0.0, EVERY_S - seconds[-1]))
    store.end(run_id, "FINISHED")
    return seconds, errors


def _send(store: Store, run_id: str, first: int) -> int:
    """Send one batch until it is taken; return how often it was not."""
    now_ms = time.time_ns() // 1_000_000
    steps = range(first, first + STEPS)
    points = [Point(f"{KEY}{metric}", step / 7, step, now_ms) for step in steps for metric in range(METRICS)]
    for errors in range(1000):
        try:
            store.log_points(run_id, points)
            return errors
        except StoreError:
            continue
    raise RuntimeError("the store takes nothing any more")


def list_all(home: Home, uri: str, until: float) -> tuple[list[float], int]:
    """List every run of every kind of stage, again and again; return what it took, and how many there are."""
    store, seconds, found = Store.open(home, uri), list[float](), 0
    while time.time() < until or not seconds:
        began = time.monotonic()
        found = sum(len(store.stages(kind)) for kind in jobs.STAGES)
        seconds.append(time.monotonic() - began)
    return seconds, found


def strain(home: Home, uri: str, *, runs: int, minutes: float, submits: int) -> list[Times]:
    """Load one store; return what it took. Raises: RuntimeError where something is lost."""
    until = time.time() + 60 * minutes
    with _processes(WRITERS + 1) as pool:
        writing = [pool.submit(write, home, uri, until) for _ in range(WRITERS)]
        listing = pool.submit(list_all, home, uri, until)
        written = [each.result() for each in writing]
        listed, found = listing.result()
    sent = sum(len(seconds) for seconds, _ in written) * STEPS * METRICS
    _require("points", _ask(uri, COUNT), sent)
    _require("runs that are listed", found, runs)
    before = _ask(uri, FINISHED)
    with _processes(submits) as pool:
        asked = [pool.submit(load_submits.submit, home, uri, number) for number in range(submits)]
        submitted = [each.result() for each in asked]
    _require("runs that finished", _ask(uri, FINISHED) - before, submits * (load_submits.STAGES + 1))
    batches = [second for seconds, _ in written for second in seconds]
    return [
        Times(f"a batch of {STEPS * METRICS} values, {WRITERS} writers", batches, sum(errors for _, errors in written)),
        Times(f"all {found} stage runs listed meanwhile", listed, 0),
        Times(f"a submission of {load_submits.STAGES} stages, {submits} at once", submitted, 0),
    ]


def fill(home: Home, uri: str, runs: int) -> int:
    """Put about so many finished runs into an empty store; return how many stages are among them."""
    made = prepare(spec.load("quickstart"), home, None)
    many_runs.submit(Store.open(home, uri), spec.load("quickstart"), made)
    copies = round(runs / (len(made.stages) + 1)) - 1
    with sqlalchemy.create_engine(uri).begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE real_runs AS SELECT run_uuid FROM runs"))
        for table, columns in _COLUMNS.items():
            copy = f"INSERT INTO {table} (run_uuid, {columns}) SELECT :n || substr(run_uuid, 9), {columns} FROM {table}"
            copy += " WHERE run_uuid IN (SELECT run_uuid FROM real_runs)"
            numbers = [{"n": f"{number:08x}"} for number in range(copies)]
            connection.execute(sqlalchemy.text(copy), numbers)
        connection.execute(sqlalchemy.text("DROP TABLE real_runs"))
    return len(made.stages) * (copies + 1)


def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=_forked)


def _ask(uri: str, question: str) -> int:
    with sqlalchemy.create_engine(uri).connect() as connection:
        return int(connection.execute(sqlalchemy.text(question)).scalar_one())


def _require(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{what}: {found} are there, and not {expected}")


@contextmanager
def _store(name: str, folder: Path) -> Iterator[tuple[Home, str]]:
    home = Home(folder / name)
    home.path.mkdir()
    if name == "sqlite":
        yield home, f"sqlite:///{home.database}"
        return
    with postgres(folder) as uri:
        yield home, uri


def main() -> None:
    """Load the stores that the command line names, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--submits", type=int, default=64)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", choices=STORES)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    lines = ["| store | what | calls | errors | median, ms | 95 %, ms | 99 %, ms | most, ms |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for name in [asked.only] if asked.only else STORES:
        with tempfile.TemporaryDirectory(prefix="load-") as folder, _store(name, Path(folder)) as (home, uri):
            with _processes(1) as pool:  # what opens a store here would be copied into every process
                runs = pool.submit(fill, home, uri, asked.runs).result()
            how = {"runs": runs, "minutes": asked.minutes, "submits": asked.submits}
            times = strain(home, uri, **how)
        lines += [f"| {name} | {each.row} |" for each in times]
        print("\n".join(lines), flush=True)
    if asked.write:
        versions, today = provenance.versions(), datetime.datetime.now(datetime.UTC).date()
        about = f"{today}, {os.cpu_count()} cores, MLflow {versions['mlflow']}, {asked.minutes:g} minutes a store:"
        asked.write.write_text(page.put(asked.write.read_text(), "load", "\n".join([about, "", *lines])))


if __name__ == "__main__":
    main()
