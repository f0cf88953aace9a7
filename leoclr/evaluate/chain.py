"""Several works one after another, as one work: the fractions of labels of a semi-supervised evaluation, say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from leoclr.work import Number, Work

State = Mapping[str, Any]  # of a work


@dataclass(frozen=True, slots=True)
class _Link:
    name: str
    make: Callable[[], Work]
    first: int  # epoch of the chain
    steps: tuple[int, ...]  # of each of its epochs

    @property
    def last(self) -> int:
        return self.first + len(self.steps) - 1


class Chain:
    """The works that `makers` make, each run from its first epoch to its `finish`, in their order.

    Only one work exists at a time, so memory stays that of the largest. A maker must make the same work whenever it
    is called: once at the start to learn the length, and again when its turn comes or a stopped run continues.
    Final numbers are named work/number, such as labels_1/top1. `check` sees the state of each work before its `finish`.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Work]], check: Callable[[State], None] | None = None) -> None:
        """Raises: ValueError without works, or when a name has a slash or a work no epochs."""
        self._links: list[_Link] = []
        self.epochs = 0
        for name, make in makers.items():
            steps = _lengths(make())
            if "/" in name or not steps:
                raise ValueError(f"{name}: a work of a chain has a name without slash and at least one epoch")
            self._links.append(_Link(name, make, self.epochs, steps))
            self.epochs += len(steps)
        if not self._links:
            raise ValueError("a chain needs at least one work")
        self._link, self._check = self._links[0], check
        self._work: Work | None = None  # None between works
        self._results: dict[str, Number] = {}

    def steps(self, epoch: int) -> int:
        link = self._at(epoch)
        return link.steps[epoch - link.first]

    def start_epoch(self, epoch: int, step: int) -> None:
        self._link = self._at(epoch)
        self._running().start_epoch(epoch - self._link.first, step)

    def train_step(self) -> Mapping[str, Tensor | Number]:
        return self._running().train_step()

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        work, link = self._running(), self._link
        watched = _prefixed(link.name, work.end_epoch(epoch - link.first))
        if epoch == link.last:  # the work's own end: it is finished here, so that its memory is free for the next one
            if self._check:
                self._check(work.state())
            self._results |= _prefixed(link.name, work.finish())
            self._work = None
        return watched

    def state(self) -> dict[str, Any]:
        work = None if self._work is None else self._work.state()
        return {"results": dict(self._results), "link": self._link.name, "work": work}

    def load(self, state: dict[str, Any]) -> None:
        self._results = dict(state["results"])
        self._link = next(link for link in self._links if link.name == state["link"])
        self._work = None
        if state["work"] is not None:
            self._running().load(state["work"])

    def finish(self) -> Mapping[str, Number]:
        """Return the final numbers of all works. Raises: RuntimeError when one has not run to its end."""
        for link in self._links:
            if not any(name.startswith(f"{link.name}/") for name in self._results):
                raise RuntimeError(f"{link.name}: this work of the chain has not run to its end")
        return dict(self._results)

    def _at(self, epoch: int) -> _Link:
        return next(link for link in self._links if epoch <= link.last)

    def _running(self) -> Work:
        if self._work is None:
            self._work = self._link.make()
        return self._work


def _lengths(work: Work) -> tuple[int, ...]:
    return tuple(work.steps(epoch) for epoch in range(work.epochs))


def _prefixed(name: str, numbers: Mapping[str, Number]) -> dict[str, Number]:
    return {f"{name}/{key}": value for key, value in numbers.items()}
