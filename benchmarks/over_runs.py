"""What a command costs on a store with many runs: a process of its own, with all imports done before.

    python -m benchmarks.over_runs COMMAND SMALL_HOME LARGE_HOME ROUNDS

Prints JSON: the seconds of each round, and by how much memory grew beyond what the small home had needed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

import psutil

from orchestration import look, opening, spec, text
from orchestration import prepare as preparing
from orchestration.report import words
from orchestration.report.explain import Explainer
from orchestration.table import text as table_text
from orchestration.table.collect import collect
from orchestration.table.read import load as load_table

PIPELINE = "quickstart"


def table() -> str:
    """Do what `leoclr-ops table quickstart` does, which shows the newest submission."""
    return _table(PIPELINE)


def selected() -> str:
    """Do what `leoclr-ops table table-1` does, which chooses among all runs of two kinds."""
    return _table("table-1")


def _table(name: str) -> str:
    _, store = opening.known()
    return table_text.render(collect(load_table(name), store, None), "text")


def status() -> str:
    """Do what `leoclr-ops status` does."""
    home, store = opening.known()
    return text.of_status(look.status(store, home))


def plan() -> str:
    """Do what `leoclr-ops plan quickstart` does where all is finished."""
    return _plan([])


def replan() -> str:
    """Do what `leoclr-ops plan quickstart --set ...` does where every stage runs anew, for a reason from the past."""
    return _plan(["pretrain.params.epochs=5"])


def _plan(overrides: list[str]) -> str:
    loaded = spec.load(PIPELINE, overrides)
    home, store = opening.past()
    planned = preparing.prepare(loaded, home, store)
    preparing.look_over(loaded, planned, home)
    return text.of_plan(planned, loaded.title)


def explain() -> str:
    """Do what `leoclr-ops explain RUN` does, of a run of the newest submission that stands on another one."""
    _, store = opening.known()
    run_id = store.submissions(PIPELINE, newest=1)[0].run_ids[-1]
    return words.in_words([Explainer(store, [run_id]).explain(run_id)])


COMMANDS: dict[str, Callable[[], str]] = {
    "table": table,
    "table table-1": selected,
    "status": status,
    "plan": plan,
    "replan": replan,
    "explain": explain,
}


def main() -> None:
    """Time the command that is named; homes are those of a server's clients where $MLFLOW_TRACKING_URI names one."""
    name, small, large, rounds = sys.argv[1:]
    act = COMMANDS[name]
    os.environ["LEOCLR_OPS_HOME"] = small
    act()  # imports what is imported when it is used, and opens the first store
    memory = _Memory()
    os.environ["LEOCLR_OPS_HOME"] = large
    seconds = []
    for _ in range(int(rounds)):
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "megabytes": memory.growth_mb()}))


class _Memory:
    """How much more memory this process holds at its peak than now."""

    def __init__(self) -> None:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def growth_mb(self) -> float:
        """Return the growth; ends the watch."""
        self._stop.set()
        self._thread.join()
        return (self._peak - self._start) / 1e6

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._peak = max(self._peak, self._process.memory_info().rss)


if __name__ == "__main__":
    main()
