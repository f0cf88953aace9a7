"""What the display is told of a stage: its own progress while it runs, its end afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from jobs.contract import Resources
from orchestration.plan import PlannedStage, State
from orchestration.recorder import Progress
from orchestration.spec import StageSpec
from orchestration.underway import Underway

HALF_WAY = Progress(epoch=3, epochs=6, fraction=0.5, loss=1.5, metric=("knn_top1", 60.0), images_per_s=100.0)


@dataclass
class Params:
    dataset: str = "digits"
    seed: int = 0


PLANNED = PlannedStage(
    fingerprint="f" * 16,
    kind="linear",
    name="probe",
    arms=("leoclr", "moco_v2"),
    spec=StageSpec("probe", "linear", (), Params(), {}, Resources()),
    inputs={},
    digest="d",
    state=State.TODO,
    why="new",
    run_id=None,
    estimate_s=40.0,
)


def test_a_running_stage_shows_its_progress_and_its_own_speed() -> None:
    stage = Underway(PLANNED, "running", "r1", started=time.monotonic() - 10)
    shown = stage.view(HALF_WAY)
    assert (shown.name, shown.kind, shown.arms, shown.run_id) == ("probe", "linear", ("leoclr", "moco_v2"), "r1")
    assert (shown.state, shown.fraction, shown.epoch, shown.epochs) == ("running", 0.5, 3, 6)
    assert (shown.loss, shown.metric, shown.images_per_s) == (1.5, ("knn_top1", 60.0), 100.0)
    assert shown.seconds == pytest.approx(10, abs=1)
    assert shown.seconds_left == pytest.approx(10, abs=1)  # half is done in 10 s


def test_before_its_speed_is_known_the_estimate_counts() -> None:
    stage = Underway(PLANNED, "running", started=time.monotonic() - 10)
    assert stage.view(Progress(fraction=0.01)).seconds_left == 40.0
    assert Underway(PLANNED, "waiting").view(Progress()).seconds_left == 40.0


def test_a_stage_whose_result_is_on_its_way_still_runs() -> None:
    stage = Underway(PLANNED, "committing", started=time.monotonic())
    assert stage.is_running and stage.is_open
    assert stage.view(HALF_WAY).state == "running"


@pytest.mark.parametrize("state", ["done", "failed", "blocked", "reused", "stopped"])
def test_a_stage_that_ended_shows_what_it_ended_with(state: str) -> None:
    stage = Underway(PLANNED, state, "r1", seconds=12.0, metric=("top1", 90.0), note="why")  # type: ignore[arg-type]
    assert not stage.is_running and not stage.is_open
    shown = stage.view(HALF_WAY)  # progress is of no stage any more
    assert (shown.state, shown.fraction, shown.epoch, shown.loss) == (state, 0.0, 0, None)
    assert (shown.metric, shown.seconds, shown.seconds_left, shown.note) == (("top1", 90.0), 12.0, None, "why")


@pytest.mark.parametrize("state", ["waiting", "queued"])
def test_a_stage_to_come_is_open_and_does_not_run(state: str) -> None:
    stage = Underway(PLANNED, state)  # type: ignore[arg-type]
    assert stage.is_open and not stage.is_running
