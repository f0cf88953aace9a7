"""A folder with a small pipeline and a home, in which the real command runs; it knows every process that it started.

Only those are ever signaled: the commands begun here and their descendants, each told apart by when it began.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from jobs import journal
from orchestration import document
from orchestration.cancel import end_tree
from orchestration.document import Tree
from orchestration.errors import LeoclrOpsError
from orchestration.storage import Home

LIMIT_S = 600.0  # in which a command ends, or something is waited for: a busy machine needs minutes
LOOK_S = 0.05
STARTS = 5  # of a command whose Ray does not come up in time
BUSY, STARTED = "Ray does not start", ": started ("  # what such a command says, and what one says that runs a stage
RAYS = "submit", "sweep"  # the commands that start it
ENDS_S = 20.0  # in which a command that is told to end does so, before it is killed
KILLED = -signal.SIGKILL
NAME = "small"
STEPS = 62  # of an epoch
RESOURCES: Mapping[str, Tree] = {"cpus_per_worker": 0.5, "checkpoint_every_steps": 10}  # of the pre-training


def pipeline(resources: Mapping[str, Tree] = RESOURCES, *, epochs: int = 2, lr: float = 0.02) -> str:
    """Return the YAML of a small pre-training, which has these resources, and a linear evaluation of it."""
    pretrain: Tree = {
        "dataset": "mnist5k", "method": "leoclr", "settings": {"temperature": 0.1, "momentum": 0.99, "queue_size": 256},
        "backbone": "resnet18", "width": 4, "stem": "stride2", "image_size": 28,
        "epochs": epochs, "batch": 64, "lr": lr, "knn_every": 1,
    }  # fmt: skip
    linear: Tree = {"dataset": "mnist5k", "protocol": "small", "settings": {"epochs": 3}}
    stages: Tree = {
        "pretrain": {"params": pretrain, "resources": dict(resources)},
        "linear": {"needs": ["pretrain"], "params": linear},
    }
    return document.dump({"title": NAME, "stages": stages})


class Broken(Exception):  # a promise was; its text says which
    """What was promised did not happen; what was measured nevertheless is as in `trial.Evidence`."""

    def __init__(self, fact: str, *, repeated: int | None = None, lost: int | None = None) -> None:
        super().__init__(fact)
        self.repeated, self.lost = repeated, lost


class Lab:
    """A place to run the product in; `close` ends all that is left of it."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        epochs: int = 2,
        lr: float = 0.02,
        hang_after_s: float = 15,
        variables: Mapping[str, str] = {},
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.home = folder, Home(folder / "home")
        resources = {**RESOURCES, "workers": workers, "hang_after_s": hang_after_s, "max_failures": 3}
        (folder / f"{NAME}.yaml").write_text(pipeline(resources, epochs=epochs, lr=lr))
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "LEOCLR_"))
        }
        self._variables = {**kept, "LEOCLR_OPS_HOME": str(self.home.path), "PYTHONUNBUFFERED": "1", **variables}
        self._started: dict[subprocess.Popen[str], set[psutil.Process]] = {}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; without words the submission of the pipeline. Its output goes to a file, see `said`."""
        with (self.folder / f"output-{len(self._started)}.txt").open("w") as output:
            process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "orchestration", *(words or ("submit", f"{NAME}.yaml"))],
                cwd=self.folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at the terminal ends it through us
                text=True,
            )
        self._started[process] = set()
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        """Return what a command has printed so far."""
        return (self.folder / f"output-{list(self._started).index(process)}.txt").read_text(errors="replace")

    def wait(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Wait for the end of a command and return what it printed. Raises: Broken where it ends with another code."""
        wait_for("the command ends", lambda: self.family(process) is not None and process.poll() is not None)
        if process.returncode != code:
            last = " / ".join(self.said(process).strip().splitlines()[-4:])
            raise Broken(f"exit code {process.returncode} where {code} was promised: {last}")
        return self.said(process)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that starts Ray, and return it once a stage has started, or it has ended.

        On a busy machine Ray gives up after 30 s: that is no fault of ours, and it is started again.
        """
        for _ in range(STARTS):
            process = self.start(*words)
            wait_for("a stage starts", partial(self._has_begun, process))
            if process.poll() is None or BUSY not in self.said(process):
                break
        return process

    def _has_begun(self, process: subprocess.Popen[str]) -> bool:
        """Return whether a command runs a stage, or has ended."""
        return STARTED in self.said(process) or process.poll() is not None

    def submit(self) -> str:
        """Submit the pipeline, to its end."""
        return self.wait(self.begin())

    def tell(self, *words: str, code: int = 0) -> str:
        """Run a command, to its end."""
        return self.wait(self.begin(*words) if words[0] in RAYS else self.start(*words), code=code)

    def status(self) -> list[dict[str, Any]]:
        """Return what `status --json` says."""
        said = self.tell("status", "--json")
        found: list[dict[str, Any]] = json.loads(said[said.index("[") :])
        return found

    def family(self, process: subprocess.Popen[str]) -> list[psutil.Process]:
        """Return the descendants of a command that live."""
        with suppress(psutil.NoSuchProcess):
            self._started[process].update(psutil.Process(process.pid).children(recursive=True))
        return [each for each in self._started[process] if is_alive(each)]

    def find(self, process: subprocess.Popen[str], *names: str) -> psutil.Process:
        """Return the descendant that has the first of `names` in its command line; wait until there is one.

        Ray names its processes after what they run.
        """
        found: list[psutil.Process] = []

        def look() -> bool:
            lines = [(each, _line(each)) for each in self.family(process)]
            found[:] = [each for name in names for each, line in lines if name in line]
            return bool(found)

        wait_for(f"a process {' or '.join(names)} is there", look, unless=process)
        return found[0]

    def steps(self) -> int:
        """Return the last step that the pre-training has written to its journal."""
        lines = (line for path in self.home.path.glob("stages/*/journal.jsonl") for line in journal.numbers(path).lines)
        return max((line["s"] for line in lines if "s" in line and "p" in line), default=0)

    def wait_for_step(self, step: int, process: subprocess.Popen[str]) -> int:
        """Wait until the pre-training has passed `step`, and return where it is."""
        wait_for(f"step {step}", lambda: self.steps() >= step, unless=process)
        return self.steps()

    def log(self) -> str:
        """Return what all stages have logged."""
        return "".join(path.read_text(errors="replace") for path in self.home.path.glob("stages/*/log.txt"))

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill a command with SIGKILL, and wait until its descendants have ended: Ray's end by themselves."""
        self.family(process)
        process.kill()
        process.wait()
        psutil.wait_procs(self.family(process), timeout=ENDS_S)
        self._end(process)

    def close(self) -> None:
        """End everything that was started here."""
        for process in self._started:
            if process.poll() is None:
                end_tree(psutil.Process(process.pid), ENDS_S)
                process.wait()
            self._end(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        left = self.family(process)
        for each in left:
            each.kill()
        psutil.wait_procs(left, timeout=ENDS_S)


@contextmanager
def lab(folder: Path, **how: Any) -> Iterator[Lab]:
    """Make a lab, and end all that is left of it."""
    own = Lab(folder, **how)
    try:
        yield own
    finally:
        own.close()


def wait_for(what: str, happens: Callable[[], bool], *, unless: subprocess.Popen[str] | None = None) -> None:
    """Wait until something happens. Raises: Broken where it does not, or the command ends before."""
    deadline = time.monotonic() + LIMIT_S
    while not happens():
        if unless and unless.poll() is not None:
            raise Broken(f"the command ended, with exit code {unless.returncode}, before this: {what}")
        if time.monotonic() > deadline:
            raise Broken(f"in {LIMIT_S:.0f} s this did not happen: {what}")
        time.sleep(LOOK_S)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is still there, and the same."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def require_linux() -> None:
    """Raises: LeoclrOpsError where processes cannot be struck as these faults do."""
    if not hasattr(signal, "SIGSTOP") or not sys.platform.startswith("linux"):
        raise LeoclrOpsError("chaos needs Linux: it stops, limits and kills processes by their names")
