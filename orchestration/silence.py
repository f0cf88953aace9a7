"""A stage whose process is frozen: after a while without a sign of life it is killed, and so begins again.

What is believed is only that a sign changes, by this process's own clock: clocks of other machines, and clocks that
jump, make nothing silent. Neither does a pause of this process itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from jobs import alive
from jobs.alive import Process

LOOK_S = 1.0  # between two looks
PAUSE_S = 5.0  # between two looks of our own, after which nobody is blamed for silence
SLACK_S = 2.0  # a start time is derived from the boot time, which moves when the clock is corrected


class Silence:
    """Watches the stages of one submission."""

    def __init__(
        self,
        end: Callable[[Process], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        far: bool = False,
    ) -> None:
        """`far`: the stages' folders lie on other nodes' disks."""
        self._end, self._clock, self._far = end or end_on_its_node, clock, far
        self._seen: dict[Path, tuple[int, float]] = {}  # the last sign of a stage, and since when it stands
        self._looked = -PAUSE_S  # the last time

    def look(self, limits: dict[Path, float]) -> list[Path]:
        """Look at the stages in these folders, given the seconds of silence allowed (0: any); end what is frozen.

        Returns: the folders of what was: of a stage, or of a trial of its grid.
        """
        now = self._clock()
        if now - self._looked < LOOK_S:
            return []
        if now - self._looked >= PAUSE_S:
            self._seen.clear()
        self._looked = now
        frozen, before, self._seen = [], self._seen, {}
        for stage, limit_s in limits.items():
            for folder, (process, sign) in alive.read(stage, far=self._far).items() if limit_s else ():
                if folder in before:
                    self._seen[folder] = before[folder]
                if self._is_frozen(folder, process, sign, limit_s, now):
                    frozen.append(folder)
        return frozen

    def _is_frozen(self, folder: Path, process: Process, sign: int, limit_s: float, now: float) -> bool:
        if self._seen.get(folder, (None, 0.0))[0] != sign:
            self._seen[folder] = sign, now
        if now - self._seen[folder][1] < limit_s:
            return False
        self._seen[folder] = sign, now  # it is given as long again
        self._end(process)
        return True


def end_on_its_node(process: Process) -> None:
    """Kill a process on its node. Ray ends a task by asking its process, and this one does not hear."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not process.node:
        end(process.pid, process.created)
        return
    there = NodeAffinitySchedulingStrategy(process.node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(end).options(scheduling_strategy=there).remote(process.pid, process.created)


def end(pid: int, created: float) -> None:
    """Kill a process of this machine, unless its number is another's by now."""
    try:
        found = psutil.Process(pid)
        if abs(found.create_time() - created) < SLACK_S:
            found.kill()
    except psutil.NoSuchProcess:
        return
