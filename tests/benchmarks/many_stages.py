"""Submit a pipeline of many stages at once to a cluster that is not there; print what it took, as JSON.

    python -m tests.benchmarks.many_stages HOME ARMS [--count]

All is real but Ray: planner, submission, recorder, MLflow, tables. Each job writes its journal and seals its result as
a worker does; all that run end together. With --count, Python's calls are counted by phase: what is quadratic shows.
"""

from __future__ import annotations

import contextlib
import cProfile
import json
import os
import pstats
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from jobs.contract import Job
from orchestration import backend, runner, spec
from orchestration.backend import Ended
from orchestration.prepare import prepare
from orchestration.schedule import Ask, Size
from orchestration.storage import Home
from orchestration.table import spec as tables
from orchestration.table.collect import collect
from orchestration.tracking import Store
from tests.orchestration.test_runner import Double, finish

PIPELINE = """
matrix: {{seed: [{seeds}]}}
stages:
  pretrain: {{params: {{dataset: digits, method: random, epochs: 0}}}}
"""
T = TypeVar("T")


class Wide(Double):
    """A cluster of as many CPUs as there are arms; what runs ends all at once."""

    def __init__(self, arms: int) -> None:
        super().__init__()
        self.there = (Size(1.0, 0.0),) * arms

    def start(self, job: Job, ask: Ask) -> int:
        self.jobs.append(job)
        return len(self.jobs) - 1

    def ended(self, handles: Sequence[int], *, timeout_s: float) -> dict[int, Ended]:
        self.most = max(self.most, len(handles))
        return {handle: finish(self.jobs[handle]) for handle in handles}


class Counter:
    """Counts the calls of each phase, where that is wanted: it takes half of the time."""

    def __init__(self, wanted: bool) -> None:
        self.calls: dict[str, int] = {}
        self._wanted = wanted

    def phase(self, name: str, act: Callable[[], T]) -> T:
        if not self._wanted:
            return act()
        profile = cProfile.Profile()
        result = profile.runcall(act)
        self.calls[name] = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]  # typeshed lacks it
        return result


def run(home: Home, arms: int, *, counted: bool) -> dict[str, object]:
    """Plan, submit, plan again, change and plan, and make the table of a pipeline with so many arms."""
    home.path.mkdir(parents=True, exist_ok=True)
    file, store, count = home.path.parent / f"wide-{arms}.yaml", Store.open(home), Counter(counted)
    file.write_text(PIPELINE.format(seeds=", ".join(map(str, range(arms)))))
    cluster = Wide(arms)

    @contextlib.contextmanager
    def connect() -> Iterator[Wide]:
        yield cluster

    backend.connect = connect  # type: ignore[assignment]
    loaded = count.phase("load", lambda: spec.load(str(file)))
    planned = count.phase("plan", lambda: prepare(loaded, home, store))
    before = peak_mb()
    outcome = count.phase("submit", lambda: runner.submit(loaded, planned, store, home, show=lambda shot: None))
    assert not outcome.failed, outcome
    used = peak_mb() - before
    count.phase("replan", lambda: prepare(loaded, home, store))
    changed = spec.load(str(file), ["pretrain.params.width=32"])
    count.phase("replan changed", lambda: prepare(changed, home, store))
    table = count.phase("table", lambda: collect(tables.default(loaded), store, outcome.run_id))
    assert sum(cell.n for row in table.cells for cell in row) == arms
    return {"most": cluster.most, "megabytes": used, "calls": count.calls, "runs": len(store.past_runs())}


def peak_mb() -> float:
    """Return the most memory that this process ever had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kilobytes, on Linux


if __name__ == "__main__":
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    print(json.dumps(run(Home(Path(sys.argv[1]).absolute()), int(sys.argv[2]), counted="--count" in sys.argv)))
