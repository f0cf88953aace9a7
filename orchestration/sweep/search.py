"""Which points a sweep tries, in which order: the only file that imports Optuna.

Grid and random points are functions of the file and a number, so that a sweep that was killed goes on with the very
same ones. Optuna is told again how the earlier trials ended, and asked for the next.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestration.sweep import space as sweep_space
from orchestration.sweep.ledger import KEPT, Asked, Entry
from orchestration.sweep.options import Optuna, Pbt, Random
from orchestration.sweep.population import Member, next_generation
from orchestration.sweep.space import LISTS, Axis, Lineage, Point
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.trial_spec import generations
from orchestration.sweep.tune import NotYet


class Search:
    """Names one trial after the other; `told` are those that ended already, `begun` those that were cut off."""

    def __init__(self, sweep: SweepSpec, entries: Iterable[Entry], *, again: Iterable[Entry]) -> None:
        self._sweep = sweep
        self._again = [Asked(each.number, dict(each.point), each.seeds, each.before) for each in again]
        self._known = {entry.number for entry in entries}
        self._grid = _grid(sweep) if sweep.one_seed_a_trial else []
        limits = (sweep.budget.trials, len(self._grid) or None)
        self._most = min((limit for limit in limits if limit is not None), default=0)

    @property
    def total(self) -> int:
        """How many trials the whole sweep has, if nothing else ends it."""
        return self._most

    def peek(self) -> Asked:
        """Return a trial like all others, without asking for it."""
        if self._grid:
            return self._grid[0]
        return Asked(0, sweep_space.draw(self._sweep.space, random.Random(0)), self._sweep.seeds)  # noqa: S311

    def like(self, number: int) -> Asked:
        """Return a trial with the stages of trial `number`, whatever values that will have."""
        return self.peek()

    def ask(self) -> Asked | None:
        """Return the next trial: first those that were cut off; None at the end.

        Raises: NotYet while the next one depends on trials under way.
        """
        if self._again:
            return self._again.pop(0)
        number = next((n for n in range(self._most) if n not in self._known), None)
        if number is None:
            return None
        if asked := self._make(number):
            self._known.add(number)
        return asked

    def foreseen(self) -> Iterator[Asked]:
        """Ask for the trials on which no result decides any more, in their order."""
        with suppress(NotYet):
            while asked := self.ask():
                yield asked

    def tell(self, entry: Entry) -> None:
        """Learn how a trial ended; a grid and chance learn nothing."""

    def _make(self, number: int) -> Asked | None:
        return self._grid[number] if self._grid else Asked(number, self._draw(number), self._sweep.seeds)

    def _draw(self, number: int) -> Point:
        assert isinstance(self._sweep.search, Random | Optuna)
        return sweep_space.draw(self._sweep.space, random.Random(f"{self._sweep.search.seed}/{number}"))  # noqa: S311


class Modeled(Search):
    """Names the points that Optuna asks for."""

    def __init__(self, sweep: SweepSpec, entries: Iterable[Entry], *, again: Iterable[Entry]) -> None:
        entries = list(entries)
        super().__init__(sweep, entries, again=again)
        import optuna

        assert isinstance(sweep.search, Optuna)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._asked = optuna, dict[int, Any]()
        seed = sweep.search.seed + len(entries)  # no draws that an earlier process has made
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=sweep.search.startup, constant_liar=True)
        way = optuna.study.StudyDirection
        ways = [way.MAXIMIZE if goal.direction == "max" else way.MINIMIZE for goal in sweep.goals.values()]
        self._study = optuna.create_study(directions=ways, sampler=sampler)
        for entry in entries:
            params = {axis.name: _param(axis, entry.point) for axis in sweep.space if axis.name in entry.point}
            self._study.enqueue_trial(params)
            self._draw(entry.number)
            if entry.state in KEPT:
                self.tell(entry)

    def foreseen(self) -> Iterator[Asked]:
        """Return those that were cut off: the model draws the others as results come."""
        yield from self._again

    def tell(self, entry: Entry) -> None:
        """Learn how a trial ended. One that was stopped is worse than all that ended, one that diverged the worst.

        What a stopped one had reached is no final number, and ranks it among its like. Of several objectives Optuna has
        no such order: such trials are left out there, as those that failed are everywhere.
        """
        trial, states = self._asked.pop(entry.number), self._optuna.trial.TrialState
        if entry.state == "done":
            self._study.tell(trial, [entry.values[title] for title in self._sweep.goals])
        elif entry.state == "failed" or len(self._sweep.goals) > 1:
            self._study.tell(trial, state=states.FAIL)
        else:
            if entry.state == "stopped" and entry.history:
                epoch, value = entry.history[-1]
                trial.report(self._sign * value, epoch)
            self._study.tell(trial, state=states.PRUNED)

    def _draw(self, number: int) -> Point:
        trial = self._asked[number] = self._study.ask()
        point: Point = {}
        for axis in self._sweep.space:
            if axis.applies(point):
                point[axis.name] = self._suggest(trial, axis)
        return point

    def _suggest(self, trial: Any, axis: Axis) -> Any:
        if axis.kind in LISTS:
            labels = [sweep_space.label(value) for value in axis.values]
            return axis.values[labels.index(trial.suggest_categorical(axis.name, labels))]
        if axis.kind == "int":
            return int(trial.suggest_int(axis.name, int(axis.low), int(axis.high)))
        return axis.rounded(trial.suggest_float(axis.name, axis.low, axis.high, log=axis.kind == "loguniform"))

    @property
    def _sign(self) -> int:
        """-1 where what is watched is better the other way than the objective is; else 1."""
        goal = next(iter(self._sweep.goals.values()))
        return 1 if getattr(self._sweep.scheduler, "direction", goal.direction) == goal.direction else -1


class Population(Search):
    """Names the members of one generation after the other: the next one when all of the last have ended."""

    def __init__(self, sweep: SweepSpec, entries: Iterable[Entry], *, again: Iterable[Entry]) -> None:
        entries = list(entries)
        super().__init__(sweep, entries, again=again)
        assert isinstance(sweep.scheduler, Pbt)
        self._options, self._size = sweep.scheduler, sweep.scheduler.population
        self._most = self._size * generations(sweep, self.peek().point)
        self._ended = {entry.number: entry for entry in entries if entry.state in KEPT}
        self._next: dict[int, list[Lineage]] = {}  # by generation

    def like(self, number: int) -> Asked:
        """Return a member of that generation which never changed."""
        first = self.peek()
        return replace(first, before=(first.point,) * (number // self._size))

    def tell(self, entry: Entry) -> None:
        """Learn what a member reached."""
        self._ended[entry.number] = entry

    def _make(self, number: int) -> Asked | None:
        """Return a member of a generation; None where the last one left nobody to go on from."""
        generation, member = divmod(number, self._size)
        if not generation:
            return super()._make(number)
        if generation not in self._next:
            self._next[generation] = self._choose(generation)
        if not self._next[generation]:
            return None
        *before, point = self._next[generation][member]
        return Asked(number, point, self._sweep.seeds, tuple(before))

    def _choose(self, generation: int) -> list[Lineage]:
        numbers = range((generation - 1) * self._size, generation * self._size)
        if any(number not in self._ended for number in numbers):
            raise NotYet
        members = [_member(self._ended[number]) for number in numbers]
        if all(member.score is None for member in members):
            return []
        assert isinstance(self._sweep.search, Random)
        return next_generation(members, self._sweep.space, self._options, seed=self._sweep.search.seed)


def _member(entry: Entry) -> Member:
    """Return a member as it came to the end of its generation."""
    left_something = entry.state in ("done", "stopped") and entry.history
    score = entry.history[-1][1] if left_something else None
    return Member((*entry.before, dict(entry.point)), score)


def begin(sweep: SweepSpec, entries: Iterable[Entry], *, again: Iterable[Entry]) -> Search:
    """Return the search of a sweep; `entries` are all trials so far, `again` those of them that are to run again."""
    if isinstance(sweep.scheduler, Pbt):
        return Population(sweep, entries, again=again)
    kind = Modeled if isinstance(sweep.search, Optuna) else Search
    return kind(sweep, entries, again=again)


def _grid(sweep: SweepSpec) -> list[Asked]:
    """Return every point with every seed: all points with the first seed come first."""
    points = sweep_space.grid(sweep.space, sweep.file.at("axes"))
    pairs = [(point, seed) for seed in sweep.seeds for point in points]
    return [Asked(number, point, (seed,)) for number, (point, seed) in enumerate(pairs)]


def _param(axis: Axis, point: Mapping[str, Any]) -> Any:
    value = point[axis.name]
    return sweep_space.label(value) if axis.kind in LISTS else value
