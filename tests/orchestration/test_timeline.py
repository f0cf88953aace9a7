"""The simulation passes over whom a look would refuse; asked one by one, all of them would begin at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration import timeline
from orchestration.schedule import Ask, Room, Size
from orchestration.timeline import Task, Timeline


def one_by_one(tasks: Sequence[Task], nodes: Sequence[Size]) -> Timeline:
    """Ask every ready task in each look, as the runner does."""
    order = {task.name: place for place, task in enumerate(tasks)}
    waits = {task.name: {need for need in task.needs if need in order} for task in tasks}
    clock, begun, done = timeline._Clock(), set[str](), set[str]()
    while True:
        room = Room(nodes, clock.held())
        for task in tasks:
            ready = task.name not in begun and waits[task.name] <= done
            if ready and (grant := room.admit(task.name, task.ask)):
                clock.start(task, grant)
                begun.add(task.name)
        if not (ended := clock.advance()):
            break
        done.update(ended)
    never = tuple(task for task in tasks if task.name not in begun)
    return Timeline(tuple(nodes), tuple(clock.slots), never)


SHAPES = st.tuples(
    st.sampled_from([Size(1, 0), Size(1, 1), Size(1, 0.3), Size(2, 1), Size(0.1, 0.7)]),
    st.sampled_from([(1,), (1,), (2,), (4, 2, 1), (8,), (12, 8), ()]),
    st.sampled_from(["pack", "pack", "strict_pack", "strict_spread"]),
)
SECONDS = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 3.0, 10.0]), st.floats(0.1, 50.0))


@st.composite
def plans(draw: st.DrawFn) -> list[Task]:
    shapes = draw(st.lists(SHAPES, min_size=1, max_size=4))
    tasks: list[Task] = []
    for number in range(draw(st.integers(1, 30))):
        worker, counts, placement = draw(st.sampled_from(shapes))
        ask = Ask(worker, counts, draw(SECONDS), placement)
        names = [*(task.name for task in tasks), "of another plan"]
        needs = draw(st.lists(st.sampled_from(names), max_size=2)) if draw(st.booleans()) else []
        tasks.append(Task(str(number), "t", ask, tuple(needs), (ask.seconds or 0.0) * draw(st.sampled_from([0, 0.3]))))
    return tasks


@settings(deadline=None, max_examples=100)  # the clock says nothing here
@given(plans(), st.lists(st.builds(Size, st.integers(1, 16), st.integers(0, 8)), min_size=1, max_size=3))
def test_it_is_what_asking_one_by_one_gives(tasks: list[Task], nodes: list[Size]) -> None:
    assert timeline.simulate(tasks, nodes) == one_by_one(tasks, nodes)


def test_a_short_one_overtakes_those_of_its_shape_that_may_not() -> None:
    seconds = {"now": 100.0, "gang": 10.0, "unknown": None, "long": 101.0, "short": 100.0, "also long": 101.0, "s": 1.0}
    counts = {"now": (6,), "gang": (8,)}
    tasks = [Task(name, "t", Ask(Size(1, 1), counts.get(name, (1,)), each), ()) for name, each in seconds.items()]
    made = timeline.simulate(tasks, [Size(16, 8)])
    assert [slot.task.name for slot in made.slots if not slot.start_s] == ["now", "short", "s"]
    assert made == one_by_one(tasks, [Size(16, 8)])


def asked(tasks: list[Task]) -> int:
    """Return how often a look asks for room."""
    with mock.patch.object(Room, "admit", autospec=True, side_effect=Room.admit) as admit:
        made = timeline.simulate(tasks, [Size(16, 8)] * 2)
    assert len(made.slots) == len(tasks)
    return int(admit.call_count)


def test_a_long_plan_costs_a_few_questions_a_task() -> None:
    for count in (200, 400):
        alike = [Task(str(i), "t", Ask(Size(1, 1), (1,), 10.0), ()) for i in range(count)]
        falling = [Task(str(i), "t", Ask(Size(1, 1), (1,), float(count - i)), ()) for i in range(count)]
        chains = [
            Task(f"{i}-{j}", "t", Ask(Size(1, 1), (1 if j else 8,), 10.0 * (j + 1)), (f"{i}-0",) if j else ())
            for i in range(count // 4)
            for j in range(4)
        ]
        for tasks in (alike, falling, chains):
            assert asked(tasks) <= 4 * count
