"""A soak: while a pipeline runs, one process of its own after the other is killed; it must end like a calm one.

Killed are the driver, the process that trains, what Ray runs for them, and MLflow's server; the driver and the server
are started again. A bucket server that holds the artifacts, where moto is installed, is only frozen for a while: what
it holds is in its memory, and no store survives the loss of its disk. All is bounded: so many kills, so many starts.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orchestration.chaos import proof
from orchestration.chaos.lab import Broken, Lab, is_alive, lab, wait_for
from orchestration.chaos.processes import TRAINERS
from orchestration.chaos.service import PATIENCE, Service, bucket, mlflow

EPOCHS = 5  # of the pre-training: kills need time to fall into
PROGRESS = 0.4  # share of the kills before which a step more is waited for: else few would fall into a training
LONGEST_S = 60.0  # that is waited for it
REST_S = 0.5, 9.0  # then, and before each other kill, at random
AWAY_S = 0.0, 4.0  # that a killed server stays away, or a frozen one frozen
DRIVER, TRAINER, RAY, MLFLOW, STORE = (
    "driver",
    "training process",
    "process of Ray's",
    "MLflow's server",
    "bucket (frozen)",
)
RAYS = "gcs_server", "raylet", "ray::"
MOST_STARTS = 3  # of the driver for each kill, and some more: it goes on, or it does not

Show = Callable[[str], None]


@dataclass(slots=True)
class Soaked:
    """What came of a soak."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    repeated: int = 0  # steps, at most: see `proof.computed_again`
    lost: int = 0  # values of the histories
    seconds: float = 0.0


def run(folder: Path, *, kills: int, seed: int, show: Show) -> Soaked:
    """Soak a pipeline with so many kills. Raises: Broken where it does not end like a calm one."""
    began, soaked = time.monotonic(), Soaked(seed)
    chance = random.Random(seed)  # noqa: S311  # the same seed strikes the same
    show("a calm run, to compare with")
    with lab(folder / "calm", epochs=EPOCHS) as own:
        own.submit()
        calm = proof.read(own)
    with bucket(folder / "bucket") as store, mlflow(folder / "server", store) as server:  # noqa: SIM117
        with lab(folder / "soak", epochs=EPOCHS, variables={"MLFLOW_TRACKING_URI": server.uri, **PATIENCE}) as own:
            struck = _Struck(own, server, store, chance=chance, soaked=soaked)
            struck.strike(kills, show)
            struck.finish(show)
            found = proof.read(own, uri=server.uri)
            proof.require_same(calm, found)
            soaked.lost, soaked.repeated = calm.lost(found), proof.repeated(own)
    soaked.seconds = time.monotonic() - began
    return soaked


class _Struck:
    """A submission that is struck again and again."""

    def __init__(
        self, own: Lab, server: Service, store: Service | None, *, chance: random.Random, soaked: Soaked
    ) -> None:
        self._lab, self._server, self._store = own, server, store
        self._chance, self._soaked, self._kills = chance, soaked, 0
        self._process: subprocess.Popen[str] | None = None

    def strike(self, kills: int, show: Show) -> None:
        """Kill something so many times; start the driver whenever it is not there."""
        self._kills = kills
        while self._soaked.kills.total() < kills:
            process, began, step = self._driver(), time.monotonic(), self._lab.steps()
            if self._chance.random() < PROGRESS:
                self._rest(process, LONGEST_S, until=lambda step=step: self._lab.steps() > step)  # type: ignore[misc]
            self._rest(process, self._chance.uniform(*REST_S))
            step, seconds = self._lab.steps(), time.monotonic() - began
            name = self._kill(process)
            self._soaked.kills[name] += 1
            show(f"{self._soaked.kills.total():3} of {kills}: {name} after {seconds:.1f} s, step {step}")

    def _rest(self, process: subprocess.Popen[str], seconds: float, until: Callable[[], bool] = bool) -> None:
        """Let the driver work for so long, or until something happens, or it ends."""
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline and not until():
            self._lab.family(process)
            time.sleep(0.05)

    def finish(self, show: Show) -> None:
        """Let it come to its end."""
        show("no more kills; it is to come to its end")
        while True:
            process = self._driver()
            wait_for("the submission ends", lambda process=process: process.poll() is not None)  # type: ignore[misc]
            if process.returncode == 0:
                return

    def _driver(self) -> subprocess.Popen[str]:
        """Return the driver, started where there is none. Raises: Broken when it was started too often."""
        if self._process is None or self._process.poll() is not None:
            if self._soaked.starts > MOST_STARTS * self._kills + 10:
                raise Broken(f"{self._soaked.starts} starts of the driver were not enough")
            if self._process is not None:
                self._lab.kill(self._process)  # what it left of its own
            self._process = self._lab.start()
            self._soaked.starts += 1
        return self._process

    def _kill(self, process: subprocess.Popen[str]) -> str:
        """Kill something of what there is, and return what it was."""
        name = self._chance.choice([DRIVER, DRIVER, TRAINER, TRAINER, RAY, MLFLOW, STORE])
        if name == MLFLOW:
            self._server.kill()
            time.sleep(self._chance.uniform(*AWAY_S))
            self._server.start()
            return name
        if name == STORE and self._store:
            self._store.freeze()
            time.sleep(self._chance.uniform(*AWAY_S))
            self._store.thaw()
            return name
        found = self._those(process, TRAINERS if name == TRAINER else RAYS if name == RAY else ())
        if not found:  # it has not come so far
            self._lab.kill(process)
            return DRIVER
        self._chance.choice(found).kill()
        return name

    def _those(self, process: subprocess.Popen[str], names: tuple[str, ...]) -> list[psutil.Process]:
        family = sorted(self._lab.family(process), key=lambda each: each.pid)
        return [each for each in family if any(name in _title(each) for name in names) and is_alive(each)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
