"""A grid's points become jobs of their own; what is on disk decides what is left, and the best score is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import jobs
from jobs import grid, journal
from jobs.contract import Job, Point, Resources
from jobs.grid import TrialFailed
from leoclr import checkpoint
from leoclr.data import DATASETS

SETTINGS = {"lrs": [0.1, 0.01], "weight_decays": [0.0, 1e-4]}
NAMES = [f"lr={lr} weight_decay={decay}" for lr in ("0.1", "0.01") for decay in ("0", "0.0001")]


def job(kind: str, folder: Path, **params: Any) -> Job:
    raw = {"dataset": next(iter(DATASETS)), **params}
    typed: TypeAdapter[Any] = TypeAdapter(jobs.module(kind).params_type(raw))
    return Job(
        stage="moved",
        kind=kind,
        fingerprint="f" * 16,
        params=typed.dump_python(typed.validate_python(raw), mode="json"),
        resources=Resources(),
        folder=str(folder),
        data_root=str(folder),
    )


@pytest.fixture
def transfer(tmp_path: Path) -> Job:
    return job("transfer", tmp_path, protocol="simclr", settings=SETTINGS)


def end(trial: Job, score: float) -> None:
    """Leave what a trial leaves that ended with `score`."""
    folder = Path(trial.folder)
    draft = folder / "draft"
    draft.mkdir(parents=True)
    (draft / "metrics.json").write_text(json.dumps({"top1": 1.0, "score": score}))
    checkpoint.seal(draft, folder / "result", fingerprint=trial.fingerprint)


def test_points_are_named_by_what_they_set(transfer: Job, tmp_path: Path) -> None:
    assert [point.name for point in grid.points(transfer)] == NAMES
    assert len(grid.points(job("transfer", tmp_path, protocol="simclr"))) == 56


def test_a_stage_without_a_choice_has_no_grid(tmp_path: Path) -> None:
    assert grid.points(job("transfer", tmp_path, protocol="small")) == []
    assert grid.points(job("linear", tmp_path)) == []
    assert grid.points(job("semi_supervised", tmp_path, protocol="simclr")) == []


def test_each_share_of_labels_has_its_own_points(tmp_path: Path) -> None:
    found = grid.points(job("semi_supervised", tmp_path, protocol="byol", settings={"epochs": [30], "lrs": [0.1]}))
    assert {point.group for point in found} == {"labels_1"}  # there is nothing to choose with 10 %
    assert len(found) == 10
    assert found[0].name == "labels_1 lr=0.005 epochs=30"


def test_trials_are_jobs_of_their_own(transfer: Job, tmp_path: Path) -> None:
    trials = [grid._trial(transfer, point) for point in grid.points(transfer)]
    assert len({trial.fingerprint for trial in trials} | {transfer.fingerprint}) == 5
    assert {len(trial.fingerprint) for trial in trials} == {16}
    assert [Path(trial.folder).relative_to(tmp_path).as_posix() for trial in trials] == [
        f"trials/{name.replace(' ', '_')}" for name in NAMES
    ]
    assert trials[0].trial == grid.points(transfer)[0]
    assert grid.points(trials[0]) == []  # a trial has no trials
    assert Job.model_validate(trials[0].model_dump(mode="json")) == trials[0]


def test_the_best_of_each_group_is_chosen_and_the_first_of_equals() -> None:
    points = [Point(group=group, settings={"lr": lr}) for group in ("a", "b") for lr in (1.0, 2.0, 3.0)]
    scores = dict(zip([point.name for point in points], (5.0, 7.0, 7.0, 2.0, 1.0, 0.0), strict=True))
    chosen = grid.choose(points, {name: {"score": score} for name, score in scores.items()})
    assert {group: point.settings["lr"] for group, point in chosen.items()} == {"a": 2.0, "b": 1.0}


def test_a_point_that_diverged_loses_and_all_of_them_fail() -> None:
    points = [Point(settings={"lr": lr}) for lr in (1.0, 2.0)]
    assert grid.choose(points, {"lr=1": {}, "lr=2": {"score": 0.0}})[""].settings == {"lr": 2.0}
    with pytest.raises(TrialFailed, match="diverged at every point"):
        grid.choose(points, {"lr=1": {}, "lr=2": {}})


def test_ended_trials_are_not_run_again(transfer: Job, tmp_path: Path) -> None:
    trials = [grid._trial(transfer, point) for point in grid.points(transfer)]
    for score, trial in enumerate(trials[:3]):
        end(trial, float(score))
    Path(trials[3].folder).mkdir(parents=True)
    (Path(trials[3].folder) / "diverged.json").write_text("{}")

    def fit(config: dict[str, Any], gpus: float) -> None:
        raise AssertionError("a trial ran again")

    ready = grid.run(transfer, fit, 0.0)
    assert (ready.trials, ready.trial) == (4, None)
    assert ready.chosen == {"": grid.points(transfer)[2]}
    log = (tmp_path / "log.txt").read_text()
    assert "tries 4 points, 0 of them are left" in log
    assert f"chosen: {NAMES[2]} with 2 on validation images" in log
    grid.export(ready, tmp_path)
    written = json.loads((tmp_path / "grid.json").read_text())
    assert written["chosen"] == {"": NAMES[2]}
    assert [point["numbers"].get("score") for point in written["points"]] == [0.0, 1.0, 2.0, None]


def test_a_torn_result_of_a_trial_is_none(transfer: Job) -> None:
    trial = grid._trial(transfer, grid.points(transfer)[0])
    end(trial, 1.0)
    assert list(grid.results(transfer)) == NAMES[:1]
    (Path(trial.folder) / "result" / "metrics.json").write_text("{}")
    assert grid.results(transfer) == {}


def test_ended_trials_are_told_in_journal_and_progress(transfer: Job, tmp_path: Path) -> None:
    trials = [grid._trial(transfer, point) for point in grid.points(transfer)]
    end(trials[0], 1.0)
    told = grid._Told(trials, tmp_path / "journal.jsonl")
    end(trials[1], 4.0)
    told.end(NAMES[1])
    (line,), _ = journal.read(tmp_path / "journal.jsonl")
    assert (line["y"], line["m"], line["p"]) == (1, {"grid/trials": 2.0, "grid/score": 4.0}, [2, 4, 0.4])
    after = journal.Journal(tmp_path / "journal.jsonl", steps=4)  # the stage itself goes on in the same file
    after.step(1, {"loss": 1.0, "images": 2}, (1, 1, 0.9))
    after.close()
    lines, _ = journal.read(tmp_path / "journal.jsonl")
    assert sorted(line["y"] for line in lines if "y" in line) == list(range(1, 1 + sum("y" in line for line in lines)))


def test_an_own_error_names_the_trial_and_a_crash_stays_a_crash() -> None:
    from ray.exceptions import RayTaskError, WorkerCrashedError

    inner = RayTaskError("fit", "traceback", ValueError("lr: too odd"))
    failed = grid._failure("lr=1", RayTaskError("try_point", "traceback", inner))
    assert isinstance(failed, TrialFailed)
    assert str(failed) == "trial lr=1: ValueError: lr: too odd"
    crash = RayTaskError("try_point", "traceback", WorkerCrashedError())
    assert isinstance(grid._failure("lr=1", crash), WorkerCrashedError)
