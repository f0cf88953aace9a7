"""Who starts when there is room: the order holds, small stages fill gaps, and no large one waits for ever."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import Resources
from orchestration import schedule, timeline
from orchestration.schedule import Ask, Held, Room, Size
from orchestration.timeline import Task

NODE = Size(16, 8)


def gpus(count: int, seconds: float | None = None) -> Ask:
    """A gang of workers with a GPU each."""
    return Ask(Size(1, 1), (count,), seconds)


def task(name: str, count: int, seconds: float | None = None, *needs: str) -> Task:
    return Task(name, name[0], gpus(count, seconds), needs)


class Settings:
    def __init__(self, **values: Any) -> None:
        self.__dict__ |= values


def test_what_fits_starts_in_order_with_as_many_workers_as_there_is_room_for() -> None:
    room = Room([NODE], [Held(Size(3, 3), None)])
    assert room.admit("a", gpus(2)) == schedule.Grant(2)
    assert room.admit("b", Ask(Size(1, 1), (8, 4, 2, 1))) == schedule.Grant(2)
    assert room.admit("c", Ask(Size(1, 0.25), (4,))) == schedule.Grant(4)
    assert room.admit("d", Ask(Size(1, 0), (1,))) == schedule.Grant(1)  # 16 - 3 - 2 - 2 - 4 - 1 = 4 CPUs are left
    assert room.admit("e", Ask(Size(5, 0), (1,))) is None


def test_fractions_of_a_gpu_add_up() -> None:
    room = Room([Size(100, 1)], [])
    assert [bool(room.admit(str(i), Ask(Size(1, 0.1), (1,)))) for i in range(11)] == [True] * 10 + [False]


def test_who_ends_before_the_next_stage_can_begin_may_overtake_it() -> None:
    room = Room([NODE], [Held(Size(6, 6), 100.0)])
    assert room.admit("large", gpus(8)) is None  # begins in 100 s
    assert room.admit("long", gpus(1, 101.0)) is None
    assert room.admit("unknown", gpus(1)) is None
    assert room.admit("short", gpus(2, 100.0)) == schedule.Grant(2, "large")


def test_who_leaves_room_for_the_next_stage_may_overtake_it() -> None:
    room = Room([NODE], [Held(Size(6, 6), 100.0)])
    assert room.admit("large", gpus(5)) is None  # 3 GPUs stay free when it begins
    assert [room.admit(name, gpus(1)) is not None for name in "abc"] == [True, True, False]  # only 2 are free now
    room = Room([NODE, NODE], [Held(Size(8, 8), 100.0), Held(Size(4, 4), None)])
    assert room.admit("large", gpus(8)) is None
    assert room.admit("a", gpus(4)) == schedule.Grant(4, "large")  # all 16: 4 + 8 + 4


def test_without_times_only_what_leaves_room_overtakes_and_all_of_it_together() -> None:
    before = [Held(Size(6, 6), None)]
    room = Room([NODE], before)
    assert room.admit("large", gpus(7)) is None
    assert room.admit("a", gpus(1, 5.0)) == schedule.Grant(1, "large")
    assert room.admit("b", gpus(1, 5.0)) is None  # with `a` it would hold two of the seven
    later = Room([NODE], [*before, Held(Size(1, 1), 5.0, "large")])
    assert later.admit("large", gpus(7)) is None
    assert later.admit("b", gpus(1, 5.0)) is None


def test_what_the_nodes_cannot_hold_now_keeps_nobody_waiting() -> None:
    room = Room([NODE], [Held(Size(1, 1), None)])
    assert room.admit("lost a node", gpus(16)) is None
    assert room.admit("a", gpus(7)) == schedule.Grant(7)


def test_a_worker_lies_on_one_node() -> None:
    two = Ask(Size(1, 3), (4,))
    assert schedule.most_workers([NODE, NODE], two) == 4  # not 16 // 3 = 5
    assert Room([Size(16, 2)] * 4, []).admit("a", Ask(Size(1, 4), (1,))) is None
    spread = Ask(Size(1, 1), (2,), placement="strict_spread")
    assert (schedule.most_workers([NODE], spread), schedule.most_workers([NODE] * 3, spread)) == (1, 3)
    pack = Ask(Size(1, 1), (9,), placement="strict_pack")
    assert schedule.most_workers([NODE] * 3, pack) == 8
    assert schedule.most_workers([Size(math.inf, 8)], gpus(1)) == 8


def test_a_range_of_workers_shares_the_batch_evenly() -> None:
    few = Resources.model_validate({"workers": {"min": 2, "max": 8}})
    assert schedule.counts(few, Settings(batch=256)) == (8, 4, 2)
    assert schedule.counts(few, Settings(batch=96)) == (8, 6, 4, 3, 2)
    assert schedule.counts(few, Settings(batch=96, accumulate=4)) == (8, 6, 4, 3, 2)
    assert schedule.counts(few, Settings(batch=96, settings=Settings(bn_splits=8))) == (6, 4, 3, 2)
    assert schedule.counts(few, Settings(settings=Settings(batch=50, few_batch=40))) == (5, 2)
    assert schedule.counts(few, Settings(batch=7)) == (7,)
    assert schedule.counts(few, Settings(batch=11)) == ()
    assert schedule.counts(few, Settings()) == (8, 7, 6, 5, 4, 3, 2)
    assert schedule.counts(Resources(workers=3), Settings(batch=256)) == (3,)


def test_a_large_stage_gets_its_turn_in_a_stream_of_small_ones() -> None:
    """Without the rule it would run last: one small stage or another always holds a GPU."""
    for seconds in (10.0, None):
        small = [task(f"s{i}", 1, seconds) for i in range(60)]
        tasks = [*small[:12], task("large", 8, 10.0), *small[12:]]
        made = timeline.simulate(tasks, [NODE])
        starts = sorted(slot.start_s for slot in made.slots)
        (large,) = (slot for slot in made.slots if slot.task.name == "large")
        assert sum(start < large.start_s for start in starts) <= 16
        assert len(made.slots) == 61


def test_the_clock_says_what_a_hand_says() -> None:
    tasks = [task("p1", 4, 100.0), task("e1", 1, 10.0, "p1"), task("p2", 8, 50.0), task("e2", 8, 10.0, "p2")]
    made = timeline.simulate(tasks, [NODE])
    assert {slot.task.name: (slot.start_s, slot.end_s) for slot in made.slots} == {
        "p1": (0.0, 100.0), "e1": (100.0, 110.0), "p2": (110.0, 160.0), "e2": (160.0, 170.0),
    }  # fmt: skip
    assert made.makespan_s == 170.0
    assert made.hours.gpus == pytest.approx((400 + 10 + 400 + 80) / 3600)
    assert made.utilization == pytest.approx(890 / (8 * 170))
    assert timeline.simulate(tasks, [Size(16, 4)]).never == (tasks[2], tasks[3])


def test_fewer_workers_take_longer() -> None:
    elastic = Task("e", "e", Ask(Size(1, 1), (8, 4, 2), 100.0), ())
    (slot,) = timeline.simulate([elastic], [Size(8, 5)]).slots
    assert (slot.workers, slot.end_s) == (4, 200.0)


@settings(deadline=None)  # the clock says nothing here
@given(st.data())
def test_nothing_is_held_twice_and_everything_runs(data: st.DataObject) -> None:
    nodes = [
        Size(data.draw(st.integers(1, 8)), data.draw(st.integers(0, 8))) for _ in range(data.draw(st.integers(1, 3)))
    ]
    tasks: list[Task] = []
    for i in range(data.draw(st.integers(1, 25))):
        worker = Size(data.draw(st.sampled_from([0.5, 1.0, 2.0])), data.draw(st.sampled_from([0.0, 0.25, 1.0])))
        counts = data.draw(st.sampled_from([(1,), (2,), (4, 2, 1), (8,)]))
        seconds = data.draw(st.sampled_from([None, 1.0, 3.0, 10.0]))
        needs = data.draw(st.lists(st.sampled_from([t.name for t in tasks]), max_size=2)) if tasks else []
        tasks.append(Task(str(i), "t", Ask(worker, counts, seconds), tuple(needs)))
    made = timeline.simulate(tasks, nodes)
    have = schedule.total(nodes)
    ends = {slot.task.name: slot.end_s for slot in made.slots}
    for slot in made.slots:
        at = [each.size for each in made.slots if each.start_s <= slot.start_s < each.end_s]
        assert have.holds(schedule.total(at))
        assert all(ends[need] <= slot.start_s for need in slot.task.needs)
    never = {task.name for task in made.never}
    for each in tasks:
        fits = min(each.ask.counts) <= schedule.most_workers(nodes, each.ask)
        assert (each.name in never) == (not fits or bool(never & set(each.needs)))
