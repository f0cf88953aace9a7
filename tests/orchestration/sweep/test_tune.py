"""What Ray's schedulers are told: the options as written, and what ran before this process did."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest
from ray.tune import schedulers

from orchestration.sweep.options import Asha, Median, NoScheduler
from orchestration.sweep.rules import _Past, replay, scheduler
from orchestration.sweep.tune import _Link, _Reports


def decide(rule: schedulers.TrialScheduler, name: str, epoch: int, value: float) -> str:
    trial = _Past(name)
    rule.on_trial_add(None, trial)
    return str(rule.on_trial_result(None, trial, {"epoch": epoch, "value": value}))


@pytest.mark.parametrize(("direction", "good", "bad"), [("max", 90.0, 10.0), ("min", 10.0, 90.0)])
def test_asha_judges_new_trials_by_those_before_a_kill(direction: str, good: float, bad: float) -> None:
    options = Asha(kind="asha", grace=2, reduction=2, direction=direction)  # type: ignore[arg-type]  # a Literal
    fresh = scheduler(options, epochs=8)
    assert decide(fresh, "first", 2, bad) == "CONTINUE"  # nothing to compare it with
    continued = scheduler(options, epochs=8)
    for number in range(3):
        replay(continued, f"before-{number}", [(1, 50.0), (2, 50.0 + number)], whole=True)
    assert decide(continued, "early", 1, bad) == "CONTINUE"  # within its grace
    assert decide(continued, "bad", 2, bad) == "STOP"
    assert decide(continued, "good", 2, good) == "CONTINUE"


def test_asha_leaves_a_trial_that_has_come_to_its_end_to_its_evaluations() -> None:
    rule = scheduler(Asha(kind="asha", grace=1, reduction=2), epochs=4)
    assert decide(rule, "first", 4, 1.0) == "CONTINUE"


def test_the_median_rule_judges_new_trials_by_those_before_a_kill() -> None:
    rule = scheduler(Median(kind="median", grace=1, min_samples=2), epochs=8)
    for number in range(2):
        replay(rule, f"before-{number}", [(1, 50.0), (2, 60.0)], whole=number == 0)
    replay(rule, "diverged", [], whole=True)
    assert decide(rule, "bad", 2, 10.0) == "STOP"
    assert decide(rule, "good", 2, 90.0) == "CONTINUE"


def test_the_median_rule_counts_the_last_epoch_of_a_finished_trial_once() -> None:
    rule = scheduler(Median(kind="median", grace=1, min_samples=1), epochs=3)
    replay(rule, "before", [(1, 10.0), (2, 30.0), (3, 80.0)], whole=True)
    assert decide(rule, "below", 3, 39.9) == "STOP"  # the mean of three is 40, with the last one twice it is 50
    assert decide(rule, "above", 3, 40.1) == "CONTINUE"


def test_the_median_rule_takes_what_a_stopped_trial_reached_after_its_verdict() -> None:
    """Ray's own asserts that there is no such number: the sweep could not go on."""
    rule = scheduler(Median(kind="median", grace=1, min_samples=2), epochs=8)
    for number in range(2):
        replay(rule, f"before-{number}", [(1, 50.0), (2, 60.0)], whole=True)
    replay(rule, "stopped", [(1, 10.0), (2, 20.0), (3, 30.0)], whole=False)
    assert decide(rule, "bad", 2, 14.0) == "STOP"
    assert decide(rule, "good", 2, 90.0) == "CONTINUE"


def test_without_a_scheduler_nothing_is_stopped() -> None:
    assert decide(scheduler(NoScheduler(), epochs=1), "any", 1, 0.0) == "CONTINUE"


def test_what_tune_copies_is_the_same_and_what_it_saves_does_nothing() -> None:
    told: list[int] = []
    link = _Link(told.append)
    copied = copy.deepcopy(link)
    assert copied.call
    copied.call(3)
    assert told == [3]
    assert pickle.loads(pickle.dumps(link)).call is None


def test_an_actor_that_takes_over_gets_what_the_first_one_asked_for() -> None:
    """A report that went to the question of an actor that was gone left its trial, and so the sweep, without an end."""

    async def act() -> list[dict[str, object]]:
        reports = _Reports()
        gone = asyncio.create_task(reports.at(0, 0))
        await asyncio.sleep(0)  # it waits now
        await reports.put(0, {"epoch": 1, "value": 50.0})
        await reports.put(0, {"done": True})
        await gone
        again = [await asyncio.wait_for(reports.at(0, place), 5.0) for place in range(2)]
        await reports.close()
        return [*again, await asyncio.wait_for(reports.at(1, 0), 5.0)]

    assert asyncio.run(act()) == [{"epoch": 1, "value": 50.0}, {"done": True}, {"done": True}]
