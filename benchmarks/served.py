"""What commands cost over 10,000 runs that MLflow's server keeps: asked by HTTP, page by page, and never read directly.

    python -m benchmarks.served [--runs 10000] [--rounds 3] [--write FILE]

The server is one process on a SQLite file, on the machine that asks it. Beside each command stands what it would cost
to go through all runs by MlflowClient.search_runs, as no filter of its says what a table or a chain is made of.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import many_runs, over_runs
from orchestration import provenance, query
from orchestration.chaos import page, service
from orchestration.query import Query
from orchestration.storage import Home
from orchestration.tracking import Store


def measure(folder: Path, runs: int, rounds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    home, client = Home(folder / "home"), folder / "client"
    many_runs.fill(home, runs)
    (folder / "server").mkdir()
    shutil.copy(home.database, folder / "server" / "server.db")
    with service.mlflow(folder / "server") as server:
        variables = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
        for name in over_runs.COMMANDS:
            words = [sys.executable, "-m", "benchmarks.over_runs", name, str(client), str(client), str(rounds)]
            done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True)
            seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
            yield f"| `{name}` | {median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |"
        began = time.perf_counter()
        store = Store.open(Home(client), server.uri)
        found = len(query.search(store._client, store.experiment, Query(metrics=True)))
        yield f"| all {found:,} runs by MlflowClient.search_runs, once | {time.perf_counter() - began:.2f} | |"


def main() -> None:
    """Measure and print, and put the table into a file that has a place for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    lines = ["| over a served store | seconds | least to greatest |", "|---|---:|---:|"]
    with tempfile.TemporaryDirectory(prefix="served-") as folder:
        for line in measure(Path(folder), asked.runs, asked.rounds):
            print(line, flush=True)
            lines.append(line)
    if asked.write:
        versions, today = provenance.versions(), datetime.datetime.now(datetime.UTC).date()
        about = f"{today}, {os.cpu_count()} cores, MLflow {versions['mlflow']}, {asked.runs:,} runs:"
        asked.write.write_text(page.put(asked.write.read_text(), "served", "\n".join([about, "", *lines])))


if __name__ == "__main__":
    main()
