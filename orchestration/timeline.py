"""What would run when: the stages of a plan on given nodes, by the rule that the runner starts them by. Pure.

The runner asks each ready stage in each look. Here those are passed over that would be refused: what is free only
shrinks within a look, so of one shape whoever takes as long as one that was refused, or longer, is refused too.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
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


class _Line:
    """The ready tasks of one shape: who comes first in the plan, of those below some rank; in logarithmic steps."""

    def __init__(self, places: Sequence[int], nothing: int) -> None:
        """Take the places in the plan of all its tasks; ranks are below `nothing`."""
        self._places, self._nothing = places, nothing
        self._inside = {place: index for index, place in enumerate(places)}
        self._width = 1 << (len(places) - 1).bit_length()
        self._least = [nothing] * (2 * self._width)  # a tree, its root at 1: the least rank below each node

    def put(self, place: int, rank: int) -> None:
        """Make a task ready."""
        self._set(place, rank)

    def take(self, place: int) -> None:
        """Remove a task that begins."""
        self._set(place, self._nothing)

    def first(self, below: int) -> int | None:
        """Return the first place of a rank below that."""
        if self._least[1] >= below:
            return None
        node = 1
        while node < self._width:
            node = 2 * node + (self._least[2 * node] >= below)
        return self._places[node - self._width]

    def _set(self, place: int, rank: int) -> None:
        node = self._width + self._inside[place]
        self._least[node] = rank
        while node := node // 2:
            self._least[node] = min(self._least[2 * node], self._least[2 * node + 1])


class _Ready:
    """The tasks whose needs are done, in a line for each shape: what they ask for but for their seconds."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        known = sorted({task.ask.seconds for task in tasks if task.ask.seconds is not None})
        ranks: dict[float | None, int] = {seconds: rank for rank, seconds in enumerate(known)}
        self._ranks = [ranks.get(task.ask.seconds, len(known)) for task in tasks]  # an unknown time is the longest
        self._above = len(known) + 1
        shapes: dict[tuple[Size, tuple[int, ...], str], list[int]] = {}
        for place, task in enumerate(tasks):
            shapes.setdefault((task.ask.worker, task.ask.counts, task.ask.placement), []).append(place)
        self._lines = [_Line(places, self._above) for places in shapes.values()]
        self._line_of = {place: number for number, places in enumerate(shapes.values()) for place in places}

    def put(self, place: int) -> None:
        """Make a task ready."""
        self._lines[self._line_of[place]].put(place, self._ranks[place])

    def admitted(self, room: Room, free: Size) -> Iterator[tuple[Task, schedule.Grant]]:
        """Take and yield those that begin in one look, in the order of the plan; `free` is what nobody holds."""
        below = [self._above] * len(self._lines)
        heads = [place for line in self._lines if (place := line.first(self._above)) is not None]
        heapq.heapify(heads)
        while heads:
            place = heapq.heappop(heads)
            number, task = self._line_of[place], self._tasks[place]
            line = self._lines[number]
            if grant := room.admit(task.name, task.ask):
                line.take(place)
                free = free.plus(task.ask.needs(grant.workers), -1)
                yield task, grant
            else:
                is_full = not task.ask.counts or not free.holds(task.ask.needs(task.ask.counts[-1]))
                below[number] = 0 if is_full else self._ranks[place]  # 0: nobody, however short
            if (following := line.first(below[number])) is not None:
                heapq.heappush(heads, following)


def simulate(tasks: Sequence[Task], nodes: Sequence[Size]) -> Timeline:
    """Return when each of `tasks` would run on `nodes`; they are asked in their order, as the runner asks."""
    places = {task.name: place for place, task in enumerate(tasks)}
    after: dict[str, list[int]] = {}
    waits = [0] * len(tasks)  # for so many others
    ready, clock = _Ready(tasks), _Clock()
    for place, task in enumerate(tasks):
        needs = {need for need in task.needs if need in places}
        waits[place] = len(needs)
        for need in needs:
            after.setdefault(need, []).append(place)
        if not needs:
            ready.put(place)
    while True:
        held, free = clock.held(), schedule.total(nodes)
        for each in held:
            free = free.plus(each.size, -1)
        for task, grant in ready.admitted(Room(nodes, held), free):
            clock.start(task, grant)
        ended = clock.advance()
        if not ended:
            break
        for follower in (follower for name in ended for follower in after.get(name, ())):
            waits[follower] -= 1
            if not waits[follower]:
                ready.put(follower)
    ran = {slot.task.name for slot in clock.slots}
    return Timeline(tuple(nodes), tuple(clock.slots), tuple(task for task in tasks if task.name not in ran))
