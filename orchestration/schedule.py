"""Which stages start when there is room: one rule, for the runner and for what a plan says will happen. Pure.

Stages are asked in the order of the plan. The first that does not fit is *next*: those after it may still start, but
only where it waits no longer for that: they end before it could begin, or leave room for it. So a stage of many GPUs
gets its turn, however many small ones there are. Of what nobody knows how long it takes, it must leave room.
Source: EASY backfilling, Lifka 1995, "The ANL/IBM SP scheduling system".

Room is counted over all nodes together; which node is Ray's to choose. Whether a stage can ever fit looks at each node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.contract import Resources

SLACK = 1e-6  # of a CPU: sums of fractions


class Size(NamedTuple):
    """CPUs and GPUs: of a node, of a worker, of what is held or free."""

    cpus: float
    gpus: float

    def plus(self, other: Size, times: float = 1) -> Size:
        return Size(self.cpus + times * other.cpus, self.gpus + times * other.gpus)

    def holds(self, other: Size) -> bool:
        return other.cpus <= self.cpus + SLACK and other.gpus <= self.gpus + SLACK


NOTHING = Size(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a stage asks for."""

    worker: Size  # that each worker holds
    counts: tuple[int, ...]  # numbers of workers that it may begin with, the most first
    seconds: float | None = None  # that it takes with the most workers; None: nobody knows
    placement: str = "pack"  # as `Resources.placement`

    def needs(self, workers: int) -> Size:
        return NOTHING.plus(self.worker, workers)


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage under way holds."""

    size: Size
    seconds_left: float | None  # None: nobody knows
    overtook: str = ""  # the stage that was next when this one started before it


@dataclass(frozen=True, slots=True)
class Grant:
    """A stage may begin."""

    workers: int
    overtook: str = ""  # as `Held.overtook`


def total(nodes: Iterable[Size]) -> Size:
    """Return what all nodes have together."""
    found = NOTHING
    for node in nodes:
        found = found.plus(node)
    return found


def ask(asked: Resources, params: Any, *, has_gpus: bool, seconds: float | None = None, trials: int = 0) -> Ask:
    """Return what a stage asks of a cluster; one that does not say takes a GPU a worker where there are any.

    A stage that begins with a grid of `trials` asks for the workers of all of them, and makes do with those of one.
    """
    gpus = asked.gpus_per_worker
    worker = Size(asked.cpus_per_worker, float(has_gpus) if gpus is None else gpus)
    if trials:
        return Ask(worker, tuple(range(trials * asked.fewest, 0, -asked.fewest)), seconds)
    return Ask(worker, counts(asked, params), seconds, asked.placement if asked.most > 1 else "pack")


def never_fits(nodes: Sequence[Size], asked: Ask) -> str:
    """Return why the empty `nodes` cannot hold a stage, in words; "" when they can."""
    if not asked.counts:
        return "no number of workers in its range shares the batch evenly"
    fewest, have, most = asked.counts[-1], total(nodes), most_workers(nodes, asked)
    if fewest <= most:
        return ""
    needs, each = asked.needs(fewest), asked.worker
    if not have.holds(needs):
        return f"needs {needs.cpus:g} CPUs and {needs.gpus:g} GPUs; this cluster has {have.cpus:g} and {have.gpus:g}"
    how = {"strict_pack": " on one node", "strict_spread": " on a node each"}.get(asked.placement, "")
    workers = "a worker" if fewest == 1 else f"{fewest} workers{how}"
    return f"needs {workers} of {each.cpus:g} CPUs and {each.gpus:g} GPUs; its nodes hold {most} of them"


def counts(asked: Resources, params: Any) -> tuple[int, ...]:
    """Return the numbers of workers that a stage may begin with, the most first.

    Of a range, those that share the recipe's batch evenly, its passes and its parts for batch norm included: the
    batch is never changed to fit the workers. Empty where none does.
    """
    if isinstance(asked.workers, int):
        return (asked.workers,)
    unit = shared(params)
    return tuple(count for count in range(asked.most, asked.fewest - 1, -1) if not unit or unit % count == 0)


def shared(params: Any) -> int:
    """Return what the number of workers must divide for all to have the same share of each step; 0: any will do."""
    settings = getattr(params, "settings", None)
    batches = [getattr(source, name, None) for source in (params, settings) for name in ("batch", "few_batch")]
    unit = math.gcd(*(batch for batch in batches if isinstance(batch, int)))
    parts = int(getattr(params, "accumulate", 1)) * int(getattr(settings, "bn_splits", 1))
    return unit // parts if unit % parts == 0 else unit


def most_workers(nodes: Sequence[Size], ask: Ask) -> int:
    """Return how many workers of `ask` the empty `nodes` hold."""
    each = [_inside(node, ask.worker) for node in nodes]
    if ask.placement == "strict_pack":
        return max(each, default=0)
    return sum(count > 0 for count in each) if ask.placement == "strict_spread" else sum(each)


def _inside(node: Size, worker: Size) -> int:
    rooms = [have / need for have, need in zip(node, worker, strict=True) if need]
    return int(min(min(rooms) + SLACK, 4096)) if rooms else 4096


class Room:
    """What is free in one look at the cluster; `admit` is asked of each ready stage in the plan's order."""

    def __init__(self, nodes: Sequence[Size], held: Iterable[Held]) -> None:
        self._nodes, self._held = nodes, list(held)
        self._most: dict[tuple[Size, str], int] = {}  # workers on empty nodes, by what one holds and their placement
        self._total = total(nodes)
        self._free = self._total
        for each in self._held:
            self._free = self._free.plus(each.size, -1)
        self._next = ""  # the first stage that does not fit
        self._next_in_s = 0.0  # seconds until it can begin
        self._beside = NOTHING  # what others may hold when it does

    def admit(self, name: str, ask: Ask) -> Grant | None:
        """Return with how many workers a ready stage begins now; None: it waits."""
        for workers in ask.counts:
            needs = ask.needs(workers)
            if workers <= self._possible(ask) and self._free.holds(needs) and self._may_overtake(ask, needs):
                self._free = self._free.plus(needs, -1)
                self._held.append(Held(needs, ask.seconds, self._next))
                return Grant(workers, self._next)
        if not self._next:
            self._hold_back_for(name, ask)
        return None

    def lacks_nodes(self, ask: Ask) -> bool:
        """Return whether the nodes cannot hold a stage, however empty they are."""
        return not ask.counts or self._possible(ask) < ask.counts[-1]

    def _possible(self, ask: Ask) -> int:
        kind = ask.worker, ask.placement
        if kind not in self._most:
            self._most[kind] = most_workers(self._nodes, ask)
        return self._most[kind]

    def _may_overtake(self, ask: Ask, needs: Size) -> bool:
        """Return whether the stage that is next does not wait any longer for this one."""
        if not self._next or (ask.seconds is not None and ask.seconds <= self._next_in_s):
            return True
        if not self._beside.holds(needs):
            return False
        self._beside = self._beside.plus(needs, -1)
        return True

    def _hold_back_for(self, name: str, ask: Ask) -> None:
        """Make a stage the next one, unless the nodes that are there can never hold it: it waits for others."""
        possible = [count for count in ask.counts if count <= self._possible(ask)]
        if not possible:
            return
        needs = ask.needs(possible[-1])
        self._next = name
        free = self._free
        known = [each for each in self._held if each.seconds_left is not None]
        for each in sorted(known, key=lambda each: each.seconds_left or 0.0):
            free = free.plus(each.size)
            if free.holds(needs):
                self._next_in_s, self._beside = each.seconds_left or 0.0, free.plus(needs, -1)
                return
        overtook = (each for each in self._held if each.overtook == name)
        self._beside = self._total.plus(needs, -1)
        for each in overtook:
            self._beside = self._beside.plus(each.size, -1)
