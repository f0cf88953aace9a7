"""What would run when: the stages of a plan on given nodes, by the rule that the runner starts them by. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration import schedule
from orchestration.schedule import Ask, Held, Room, Size


@dataclass(frozen=True, slots=True)
class Task:
    """A stage to run."""

    name: str  # another one for each
    title: str  # of the stage: tasks of one title are told together
    ask: Ask
    needs: tuple[str, ...]  # names of the tasks that it comes after; one that is no task is finished already
    serial_s: float = 0.0  # of its seconds, however many workers: the training that a grid of trials ends with

    def takes_s(self, workers: int) -> float:
        """Return the seconds with so many workers, 1 where nobody knows: fewer share the same work."""
        if self.ask.seconds is None:
            return 1.0
        return self.serial_s + (self.ask.seconds - self.serial_s) * self.ask.counts[0] / workers


@dataclass(frozen=True, slots=True)
class Slot:
    """A task on the clock, which begins at 0."""

    task: Task
    start_s: float
    end_s: float
    workers: int

    @property
    def size(self) -> Size:
        return self.task.ask.needs(self.workers)


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each task runs."""

    nodes: tuple[Size, ...]
    slots: tuple[Slot, ...]  # by start
    never: tuple[Task, ...]  # that these nodes can never hold, or that need one of those

    @property
    def makespan_s(self) -> float:
        return max((slot.end_s for slot in self.slots), default=0.0)

    @property
    def hours(self) -> Size:
        """CPU-hours and GPU-hours that the tasks hold."""
        held = [(slot.size, (slot.end_s - slot.start_s) / 3600) for slot in self.slots]
        return Size(sum(size.cpus * hours for size, hours in held), sum(size.gpus * hours for size, hours in held))

    @property
    def utilization(self) -> float:
        """The share of the GPUs, or of the CPUs where there is none, that is held until all is done; NaN: no bound."""
        have, makespan = schedule.total(self.nodes), self.makespan_s / 3600
        held, there = (self.hours.gpus, have.gpus) if have.gpus else (self.hours.cpus, have.cpus)
        return held / (there * makespan) if makespan and math.isfinite(there) else math.nan


class _Clock:
    """The tasks that run, and what has ended."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slots: list[Slot] = []
        self._running: dict[str, tuple[Slot, str]] = {}  # with what it overtook
        self._ends: list[tuple[float, str]] = []

    def start(self, task: Task, grant: schedule.Grant) -> None:
        slot = Slot(task, self.now_s, self.now_s + task.takes_s(grant.workers), grant.workers)
        self.slots.append(slot)
        self._running[task.name] = slot, grant.overtook
        heapq.heappush(self._ends, (slot.end_s, task.name))

    def held(self) -> list[Held]:
        return [
            Held(slot.size, None if slot.task.ask.seconds is None else slot.end_s - self.now_s, overtook)
            for slot, overtook in self._running.values()
        ]

    def advance(self) -> list[str]:
        """Go to the next end; return what has ended by then, nothing when nothing runs."""
        ended: list[str] = []
        while self._ends and (not ended or self._ends[0][0] <= self.now_s):
            self.now_s, name = heapq.heappop(self._ends)
            del self._running[name]
            ended.append(name)
        return ended


def simulate(tasks: Sequence[Task], nodes: Sequence[Size]) -> Timeline:
    """Return when each of `tasks` would run on `nodes`; they are asked in their order, as the runner asks."""
    order = {task.name: place for place, task in enumerate(tasks)}
    waits = {task.name: {need for need in task.needs if need in order} for task in tasks}
    after: dict[str, list[Task]] = {}
    for task in tasks:
        for need in waits[task.name]:
            after.setdefault(need, []).append(task)
    ready = {task.name: task for task in tasks if not waits[task.name]}
    clock = _Clock()
    while True:
        room = Room(nodes, clock.held())
        for task in sorted(ready.values(), key=lambda task: order[task.name]):
            if grant := room.admit(task.name, task.ask):
                clock.start(task, grant)
                del ready[task.name]
        ended = clock.advance()
        if not ended:
            break
        for follower in (follower for name in ended for follower in after.get(name, ())):
            waits[follower.name] -= set(ended)
            if not waits[follower.name]:
                ready[follower.name] = follower
    ran = {slot.task.name for slot in clock.slots}
    return Timeline(tuple(nodes), tuple(clock.slots), tuple(task for task in tasks if task.name not in ran))
