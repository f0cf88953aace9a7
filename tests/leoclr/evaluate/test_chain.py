"""A chain runs its works as one, holds one at a time, and continues in the middle of any of them."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from leoclr.evaluate.chain import Chain


class Counter:
    """A work whose state is a number that every step changes in its own way."""

    def __init__(self, factor: float, epochs: int) -> None:
        self.epochs = epochs
        self.factor, self.value, self.position = factor, 1.0, (0, 0)

    def steps(self, epoch: int) -> int:
        return epoch + 1

    def start_epoch(self, epoch: int, step: int) -> None:
        self.position = (epoch, step)

    def train_step(self) -> Mapping[str, float]:
        epoch, step = self.position
        self.value = self.value * self.factor + epoch + step / 10
        self.position = (epoch, step + 1)
        return {"loss": self.value, "images": 1}

    def end_epoch(self, epoch: int) -> Mapping[str, float]:
        return {"epoch": epoch}

    def state(self) -> dict[str, Any]:
        return {"value": self.value}

    def load(self, state: dict[str, Any]) -> None:
        self.value = state["value"]

    def finish(self) -> Mapping[str, float]:
        return {"top1": self.value}


def chain() -> Chain:
    return Chain({"labels_1": lambda: Counter(1.5, 2), "labels_10": lambda: Counter(0.5, 3)})


Position = tuple[int, int]


def run(work: Chain, start: Position = (0, 0), *, save: dict[Position, dict[str, Any]] | None = None) -> list[float]:
    losses = []
    for epoch in range(start[0], work.epochs):
        first = start[1] if epoch == start[0] else 0
        work.start_epoch(epoch, first)
        for step in range(first, work.steps(epoch)):
            losses.append(float(work.train_step()["loss"]))
            if save is not None:
                save[(epoch, step + 1)] = copy.deepcopy(work.state())
        work.end_epoch(epoch)
        if save is not None:
            save[(epoch + 1, 0)] = copy.deepcopy(work.state())
    return losses


def test_works_run_one_after_another_with_their_own_epochs() -> None:
    work = chain()
    assert [work.steps(epoch) for epoch in range(work.epochs)] == [1, 2, 1, 2, 3]
    losses = run(work)
    alone = []
    for single in (Counter(1.5, 2), Counter(0.5, 3)):
        for epoch in range(single.epochs):
            single.start_epoch(epoch, 0)
            alone += [single.train_step()["loss"] for _ in range(single.steps(epoch))]
    assert losses == alone
    assert work.finish() == {"labels_1/top1": alone[2], "labels_10/top1": alone[-1]}


def test_it_continues_from_every_step_and_every_end_of_an_epoch() -> None:
    saved: dict[Position, dict[str, Any]] = {}
    whole = chain()
    losses = run(whole, save=saved)
    assert len(saved) == 9 + 5
    for position, state in saved.items():
        again = chain()
        again.load(state)
        rest = run(again, position)
        assert rest == losses[len(losses) - len(rest) :]
        assert again.finish() == whole.finish()


def test_a_finished_work_is_let_go_before_the_next_is_made() -> None:
    alive: list[weakref.ref[Counter]] = []

    def make() -> Counter:
        assert all(ref() is None for ref in alive)
        made = Counter(1.0, 1)
        alive.append(weakref.ref(made))
        return made

    work = Chain({"a": make, "b": make})
    run(work)
    assert len(alive) == 4  # each once to learn its length, once to run
    assert set(work.finish()) == {"a/top1", "b/top1"}


def test_end_of_epoch_numbers_carry_the_name_of_their_work() -> None:
    work = chain()
    work.start_epoch(2, 0)
    work.train_step()
    assert work.end_epoch(2) == {"labels_10/epoch": 0}


def test_what_cannot_be_a_chain_or_its_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one work"):
        Chain({})
    with pytest.raises(ValueError, match="a/b"):
        Chain({"a/b": lambda: Counter(1.0, 1)})
    with pytest.raises(ValueError, match="at least one epoch"):
        Chain({"a": lambda: Counter(1.0, 0)})
    with pytest.raises(RuntimeError, match="labels_1: "):
        chain().finish()


def test_each_work_is_checked_before_its_numbers_count() -> None:
    def refuse(state: Mapping[str, Any]) -> None:
        seen.append(state)
        if len(seen) == 2:
            raise ValueError("no number")

    seen: list[Mapping[str, Any]] = []
    work = Chain({"a": lambda: Counter(1.0, 1), "b": lambda: Counter(1.0, 1)}, refuse)
    with pytest.raises(ValueError, match="no number"):
        for epoch in range(work.epochs):
            work.start_epoch(epoch, 0)
            for _ in range(work.steps(epoch)):
                work.train_step()
            work.end_epoch(epoch)
    assert {name.partition("/")[0] for name in work.state()["results"]} == {"a"}
