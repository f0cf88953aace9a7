import dataclasses
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import progress
from orchestration.progress import ASCII, Line, Snapshot, StageState, StageView


def stage(name: str, state: StageState, **changes: object) -> StageView:
    view = StageView(name, name, (f"leoclr seed={name[-1]}",), state, run_id="1a2b3c4d5e6f")
    return dataclasses.replace(view, **changes)  # type: ignore[arg-type]  # a test's own fields


def snapshot(stages: Sequence[StageView], note: str = "") -> Snapshot:
    return Snapshot("quickstart", "9f8e7d6c5b4a", 100.0, tuple(stages), note)


def texts(lines: Sequence[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def draw(shown: Snapshot, *, height: int = 23, width: int = 79, now: float = 161.0) -> list[str]:
    return texts(progress.layout(shown, now=now, height=height, width=width, glyphs=ASCII))


RUNNING = stage(
    "pretrain0",
    "running",
    fraction=0.5,
    epoch=4,
    epochs=8,
    loss=4.3126,
    metric=("knn_top1", 81.23),
    images_per_s=512.4,
    seconds=40.0,
    seconds_left=41.0,
)


def test_a_running_stage_shows_all_that_is_known() -> None:
    assert draw(snapshot([RUNNING]), width=99) == [
        "quickstart  run 9f8e7d6c  1:01, about 0:41 left",
        "============------------ 0/1  1 running",
        "",
        "stage     arm           progress                        loss metric        img/s      time",
        "pretrain0 leoclr seed=0 ============-------------  50% 4.313 knn_top1 81.2   512 0:41 left",
    ]


def test_45_stages_fit_a_terminal_of_24_lines_with_what_runs_first() -> None:
    states: list[StageState] = ["done"] * 20 + ["running"] * 3 + ["failed"] * 2 + ["blocked"] * 5 + ["waiting"] * 15
    lines = draw(snapshot([stage(f"s{i:02}", state, note="no space") for i, state in enumerate(states)]))
    assert len(lines) == 23
    assert [line[:3] for line in lines[4:11]] == ["s20", "s21", "s22", "s23", "s24", "s19", "s18"]
    assert lines[-1] == "... and 7 done, 15 waiting, 5 blocked"
    assert lines[7].endswith("failed: no space")


def test_what_is_shown_and_what_is_summed_up_are_all_stages() -> None:
    stages = [stage(f"s{i:02}", "waiting") for i in range(45)]
    assert draw(snapshot(stages), height=13)[-1] == "... and 37 waiting"  # 13 - 4 of head - 1 of sum = 8
    assert len(draw(snapshot(stages), height=80)) == 4 + 45


@given(
    states=st.lists(st.sampled_from(get_args(StageState)), max_size=60),
    height=st.integers(1, 70),
    width=st.integers(1, 200),
    note=st.sampled_from(["", "MLflow does not answer"]),
)
def test_nothing_is_ever_larger_than_the_window(states: list[StageState], height: int, width: int, note: str) -> None:
    stages = [
        stage(f"semi_supervised_{i}", state, metric=("labels_10/top1", 1.0), loss=0.1) for i, state in enumerate(states)
    ]
    lines = draw(snapshot(stages, note), height=height, width=width)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([stage("a0", "running", seconds_left=10.0), stage("b0", "running", seconds_left=20.0)], 15.0),  # two at a time
        (
            [stage("a0", "done", seconds=8.0), stage("a0", "running", fraction=0.75)],
            2.0,
        ),  # a quarter of what its kind took
        ([stage("a0", "done", seconds=8.0), stage("b0", "waiting")], None),  # nothing tells of b
        ([stage("a0", "failed"), stage("b0", "blocked"), stage("c0", "reused")], 0.0),
    ],
)
def test_remaining_time(stages: list[StageView], expected: float | None) -> None:
    assert progress.remaining_s(stages) == expected


def test_each_change_of_state_is_one_line() -> None:
    waiting, failed = stage("linear0", "waiting"), stage("linear0", "failed", note="see log.txt")
    started = stage("pretrain0", "running")
    done = stage("pretrain0", "done", seconds=78.0, metric=("knn_top1", 86.8))
    first, second = snapshot([started, waiting]), snapshot([done, failed])
    assert progress.events(None, first, now=112.0) == ["[0:12] pretrain0 leoclr seed=0: started (run 1a2b3c4d)"]
    assert progress.events(first, first, now=113.0) == []
    assert progress.events(first, second, now=190.0) == [
        "[1:30] pretrain0 leoclr seed=0: done in 1:18, knn_top1 86.8 (2 of 2)",
        "[1:30] linear0 leoclr seed=0: failed: see log.txt",
    ]


def test_a_stage_that_diverged_is_told_so() -> None:
    before, after = (
        snapshot([RUNNING]),
        snapshot([dataclasses.replace(RUNNING, state="failed", note="Diverged: the loss is nan")]),
    )
    (line,) = progress.events(before, after, now=190.0)
    assert line.endswith(": diverged: the loss is nan")
    shown = ["".join(text for text, _ in line) for line in progress.layout(after, now=190.0, height=9, width=100)]
    assert "0/1  1 diverged" in shown[1]
    assert shown[-1].endswith("diverged: the loss is nan")


def test_a_stage_that_is_due_reports_its_progress() -> None:
    now = snapshot([RUNNING])
    assert progress.events(now, now, now=140.0, due={RUNNING.key}) == [
        "[0:40] pretrain0 leoclr seed=0: 50%, epoch 4/8, loss 4.313, knn_top1 81.2, 512 images/s, 0:41 left"
    ]


def test_reused_stages_are_told_in_one_line() -> None:
    now = snapshot([stage("a0", "reused"), stage("b0", "reused"), stage("c0", "waiting")], note="MLflow is away")
    expected = ["[0:01] MLflow is away", "[0:01] 2 of 3 stages finished earlier: reused"]
    assert progress.events(None, now, now=101.0) == expected


def test_shared_stages_name_how_many_arms_share_them() -> None:
    shared = StageView("pretrain", "pretrain", ("a seed=0", "b seed=0"), "done")
    assert shared.arm == "2 arms"
