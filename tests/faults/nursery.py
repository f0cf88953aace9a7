"""A process that has imported all that a submission needs, and forks a child for each: they start in no time.

Reads orders as JSON lines: {"folder": ..., "words": [...], "end_at": [name, visit] or null}. Answers each with the exit
code of the child, which leaves output.txt and, unless it was ended, points.json in `folder`. What is given on the
command line is a folder to warm up in: its empty.db is a database of MLflow's without runs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from orchestration import backend, cli, runner, underway
from orchestration.backend import Backend, Ended
from orchestration.schedule import Ask, Size
from tests.faults.points import Points

SECONDS = 300  # in which a child ends, or is ended; the first one imports everything


class Here(Backend):
    """A cluster of this process: a stage's own train loop runs when the driver asks which jobs have ended."""

    there = (Size(2.0, 0.0),)
    _own = True

    def __init__(self) -> None:
        self._given: list[Any] = []

    @property
    def nodes(self) -> tuple[Size, ...]:
        return self.there

    def start(self, job: Any, ask: Ask) -> int:
        self._given.append(job)
        return len(self._given) - 1

    def ended(self, handles: Sequence[int], *, timeout_s: float) -> dict[int, Ended]:
        backend.fit(self._given[handles[0]].model_dump(mode="json"), 0.0)
        return {handles[0]: Ended()}


@contextlib.contextmanager
def _here() -> Iterator[Here]:
    yield Here()


def main() -> None:
    """Serve orders until there are no more."""
    backend.connect = _here
    runner.POLL_S = underway.RETRY_S = underway.LOOK_S = 0.01
    warm = Path(sys.argv[1])
    if not (child := os.fork()):
        _obey({"folder": str(warm), "words": ["submit", "tiny.yaml"], "end_at": None})
    os.waitpid(child, 0)
    if not (child := os.fork()):
        MlflowClient(tracking_uri=f"sqlite:///{warm / 'empty.db'}").get_experiment("0")
        os._exit(0)
    os.waitpid(child, 0)
    for name in json.loads((warm / "modules.json").read_text()):
        with contextlib.suppress(ImportError):  # one that only makes sense inside another
            importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if not (child := os.fork()):
            _obey(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: dict[str, Any]) -> None:
    """Run one command of the product in this child, and end."""
    folder = Path(order["folder"])
    signal.alarm(SECONDS)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(folder)
    os.environ["LEOCLR_OPS_HOME"] = str(folder / "home")
    points = Points(folder / "home", tuple(order["end_at"]) if order["end_at"] else None)
    points.watch()
    code = 1
    try:
        sys.argv = ["leoclr-ops", *order["words"]]
        cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # the child must end here, whatever it was
        traceback.print_exc()
    points.stop()
    (folder / "points.json").write_text(json.dumps(points.order))
    (folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
