from dataclasses import replace
from pathlib import Path

import pytest

from orchestration import announced, attach, records
from orchestration.announced import Announced
from orchestration.attach import snapshot
from orchestration.errors import NotFound
from orchestration.progress import Outcome, Snapshot
from orchestration.records import StageRun, Status, Submission
from orchestration.stopping import CANCELLED, STOPPED
from orchestration.tracking import Store
from tests.orchestration import tracked

NOW_MS = 1_790_000_000_000
PLAN = (
    Announced("pretrain", "pretrain", ("seed=0", "seed=1"), "f1", True, 60.0, "knn_top1"),
    Announced("linear", "linear", ("seed=0",), "f2", True, 30.0, "top1"),
)


def submission(status: Status = "RUNNING", *, beat_ms: int = NOW_MS, **stages: str) -> Submission:
    arms = {"seed=0": stages, "seed=1": {}}
    ended = None if status == "RUNNING" else NOW_MS
    times = (NOW_MS - 90_000, ended, NOW_MS - 60_000)
    return Submission("a" * 32, "small", "t", status, *times, arms, {}, "job-1@head", 1, 0.0, beat_ms)


def run(name: str, status: Status, *, began_ms: int = NOW_MS - 40_000, parent: str = "a" * 32, **tags: str) -> StageRun:
    own = {records.ATTEMPT_MS: str(began_ms), records.FINGERPRINT: "f", **tags}
    metrics = {"loss": 2.5, "images_per_s": 320.0, "top1": 80.0, "knn_top1": 70.0}
    ended = None if status == "RUNNING" else NOW_MS - 10_000
    return StageRun(f"{name}-run", name, name, "seed=0", status, metrics, own, {}, began_ms, ended, parent)


def seen(of: Submission, *runs: StageRun, plan: tuple[Announced, ...] = PLAN) -> Snapshot:
    return snapshot(plan, of, {each.run_id: each for each in runs}, now_ms=NOW_MS, now=1000.0)


def test_a_running_stage_is_shown_as_far_as_it_says() -> None:
    tags = announced.progress_tag(2, 8, 0.25, ("knn_top1", 71.5))
    shown = seen(submission(pretrain="pretrain-run"), run("pretrain", "RUNNING", **tags))
    pretrain, linear = shown.stages
    assert (pretrain.state, pretrain.epoch, pretrain.epochs, pretrain.fraction) == ("running", 2, 8, 0.25)
    assert (pretrain.loss, pretrain.metric, pretrain.images_per_s) == (2.5, ("knn_top1", 71.5), 320.0)
    assert (pretrain.seconds, pretrain.seconds_left) == (40.0, 120.0)
    assert (linear.state, linear.seconds_left) == ("waiting", 30.0)
    assert (shown.started, shown.note) == (940.0, "")  # continued 60 s ago


def test_what_ended_is_shown_with_what_it_ended_with() -> None:
    of = submission(pretrain="pretrain-run", linear="linear-run")
    failed = run("linear", "FAILED", **{records.REASON: "ValueError: no"})
    pretrain, linear = seen(of, run("pretrain", "FINISHED", parent="b" * 32), failed).stages
    assert (pretrain.state, pretrain.metric) == ("reused", ("knn_top1", 70.0))
    assert (linear.state, linear.note) == ("failed", "ValueError: no")
    assert seen(of, run("pretrain", "FINISHED")).stages[0].state == "done"


def test_a_stage_of_an_earlier_attempt_waits_in_this_one() -> None:
    old = run("pretrain", "KILLED", began_ms=NOW_MS - 80_000)
    assert seen(submission(pretrain="pretrain-run"), old).stages[0].state == "waiting"
    assert seen(submission("KILLED", pretrain="pretrain-run"), old).stages[0].state == "stopped"


def test_what_was_done_before_is_reused_without_a_run() -> None:
    plan = tuple(replace(stage, todo=False) for stage in PLAN)
    assert {view.state for view in seen(submission(), plan=plan).stages} == {"reused"}


def test_an_older_submission_shows_the_stages_that_it_began() -> None:
    (view,) = seen(submission(pretrain="pretrain-run"), run("pretrain", "RUNNING"), plan=()).stages
    assert (view.name, view.arms, view.state) == ("pretrain", ("seed=0",), "running")


def test_silence_is_told() -> None:
    assert "no sign of life from job-1@head for 50 s" in seen(submission(beat_ms=NOW_MS - 50_000)).note
    assert not seen(submission("KILLED", beat_ms=NOW_MS - 50_000)).note


@pytest.mark.parametrize(
    ("status", "reason", "beat_ms", "stopped"),
    [
        ("FINISHED", "", NOW_MS - 9, False),
        ("KILLED", STOPPED, NOW_MS - 9, True),
        ("KILLED", CANCELLED, NOW_MS - 9, True),
        ("KILLED", "no sign of life from job-1@head for 91 s", NOW_MS, True),  # ended as of its last sign of life
        ("KILLED", "the budget of 2 hours is spent", NOW_MS - 9, False),
    ],
)
def test_what_came_of_it(status: Status, reason: str, beat_ms: int, stopped: bool) -> None:
    of = submission(status, beat_ms=beat_ms, linear="linear-run")
    failed = run("linear", "FAILED", **{records.REASON: "no"})
    assert attach.outcome(of, seen(of, failed), reason) == Outcome("a" * 32, ("linear seed=0: no",), stopped)


def test_a_submission_is_followed_to_its_end(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.table(tmp_path)
    runs = tracked.finish(store, tmp_path, seeds=(0,))
    parent = store.stage_runs(runs.values())[next(iter(runs.values()))].parent
    shown: list[Snapshot] = []

    def show(each: Snapshot) -> None:
        shown.append(each)
        if len(shown) == 2:
            store.end(parent, "FINISHED")

    monkeypatch.setattr(attach, "POLL_S", 0.01)
    monkeypatch.setattr(attach._Watched, "poll_s", 0.01)
    assert attach.follow(store, attach.find(store, parent[:8]), show) == Outcome(parent)
    assert len(shown) == 3
    states = [view.state for view in shown[-1].stages]
    assert (len(states), states.count("done"), states.count("waiting")) == (8, 4, 4)  # all of the plan, by plan.json


def test_a_run_that_is_not_there_is_told(store: Store) -> None:
    with pytest.raises(NotFound, match="no such job has opened a run"):
        attach.find(store, "small-0a1b-1")
    with pytest.raises(NotFound, match="no run begins with"):
        attach.find(store, "abcd")
