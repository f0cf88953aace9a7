"""The loop: whatever stops a stage, what is on disk continues it, and the end is that of an undisturbed run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs import journal, loop
from jobs.contract import Job, Resources
from jobs.journal import Diverged
from jobs.preemption import Preempted
from leoclr import checkpoint
from leoclr.checkpoint import CheckpointError
from leoclr.work import Number, Work

EPOCHS, STEPS = 3, 4
OURS = "a" * 16


class Walk:
    """A weight that walks at random, with momentum: every step hangs on all steps before it, and on the generator."""

    epochs = EPOCHS

    def __init__(self, *, stop_at: int = 0, loss_at: Mapping[int, float] | None = None) -> None:
        self._weight, self._speed, self._total = torch.rand(2), torch.zeros(2), 0  # drawn from the stage's seed
        self._stop_at, self._loss_at = stop_at, loss_at or {}
        self.started: list[tuple[int, int]] = []

    def steps(self, epoch: int) -> int:
        return STEPS

    def start_epoch(self, epoch: int, step: int) -> None:
        self.started.append((epoch, step))
        self._total = epoch * STEPS + step

    def train_step(self) -> Mapping[str, Tensor | Number]:
        self._total += 1
        if self._total == self._stop_at:
            raise SystemExit("killed")
        self._speed = 0.9 * self._speed + torch.randn(2)
        self._weight = self._weight + self._speed
        return {"loss": torch.tensor(self._loss_at.get(self._total, self._weight.sum().item())), "images": 8}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        return {"look": float(self._weight[0])}

    def state(self) -> dict[str, Any]:
        return {"weight": self._weight, "speed": self._speed}

    def load(self, state: dict[str, Any]) -> None:
        self._weight, self._speed = state["weight"], state["speed"]

    def finish(self) -> Mapping[str, Number]:
        return {"top1": float(self._weight.sum())}


class Stage:
    """A stage in a folder; `run` is one attempt at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def job(self, fingerprint: str = OURS, **resources: Any) -> dict[str, Any]:
        until, after = resources.pop("until", None), resources.pop("after", None)
        job = Job(
            stage="walk",
            kind="linear",
            fingerprint=fingerprint,
            params={"dataset": "digits", "seed": 3} | ({"until": until} if until else {}),
            resources=Resources(**{"checkpoint_every_s": 0, "checkpoint_every_steps": 3} | resources),
            folder=str(self.folder),
            data_root=str(self.folder),
            begins=after[0] if after else 0,
            inputs={"checkpoint": str(after[1].folder / "result" / "checkpoint.pt")} if after else {},
        )
        dumped: dict[str, Any] = job.model_dump(mode="json")
        return dumped

    def run(self, *, stop_at: int = 0, loss_at: Mapping[int, float] | None = None, **job: Any) -> Walk:
        built: list[Walk] = []

        def build(job: Job, device: torch.device) -> Work:
            built.append(Walk(stop_at=stop_at, loss_at=loss_at))
            return built[0]

        torch.rand(5)  # another process has another generator
        loop.run(self.job(**job), build, self.export)
        return built[0]

    @staticmethod
    def export(job: Job, work: Work, folder: Path) -> None:
        (folder / "trunk").write_text(f"{job.stage} {work.epochs}")

    def end(self) -> Any:
        """All that a finished stage leaves, but for times."""
        result = self.folder / "result"
        state = torch.load(result / "checkpoint.pt", weights_only=True)
        plain = {name: value.tolist() for name, value in (state["work"] | {"torch": state["random"]["torch"]}).items()}
        lines, _ = journal.read(self.folder / "journal.jsonl")
        history = [(line.get("e"), line["s"], line["m"]) for line in lines if "s" in line]
        return plain, sorted(history, key=str), json.loads((result / "metrics.json").read_text())


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Stand in for Ray, which is asked for the device and told of checkpoints; one test below has the real one."""
    told: list[Any] = []
    threads, level = torch.get_num_threads(), loop.log.level
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_device", lambda: torch.device("cpu"))
        patch.setattr(loop, "_report", lambda numbers, saved=None: told.append((dict(numbers), saved and saved.name)))
        yield told
    torch.set_num_threads(threads)
    loop.log.setLevel(level)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "stage")


@pytest.fixture
def calm(tmp_path: Path) -> Any:
    """What an undisturbed run ends with."""
    stage = Stage(tmp_path / "calm")
    stage.run()
    return stage.end()


@pytest.mark.parametrize("stop_at", [0, 10])
def test_one_cut_in_two_is_the_one_whole(stage: Stage, calm: Any, tmp_path: Path, stop_at: int) -> None:
    first = Stage(tmp_path / "first")
    first.run(until=2)
    weights, history, final = calm
    if stop_at:
        with pytest.raises(SystemExit):
            stage.run(after=(2, first), stop_at=stop_at, fingerprint="b" * 16)
    work = stage.run(after=(2, first), fingerprint="b" * 16)
    assert stage.end()[0] == weights
    assert stage.end()[2] == final
    early, late = first.end()[1], stage.end()[1]
    assert sorted(early + late, key=str) == history, "the two histories are the whole one"
    assert work.started[0][0] == 2


def test_a_state_that_does_not_fit_is_refused(stage: Stage, tmp_path: Path) -> None:
    first = Stage(tmp_path / "first")
    first.run(until=2)
    torch.save({"work": {"other": torch.zeros(1)}, "random": {}}, first.folder / "result" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="walk cannot go on from"):
        stage.run(after=(2, first))


def test_a_run_ends_with_a_sealed_result(stage: Stage, reported: list[Any]) -> None:
    work = stage.run()
    result = stage.folder / "result"
    assert checkpoint.sealed(result, fingerprint=OURS)
    manifest = json.loads((result / "manifest.json").read_text())
    assert set(manifest["files"]) == {"checkpoint.pt", "metrics.json", "params.json", "log.txt", "trunk"}
    assert (manifest["fingerprint"], manifest["kind"]) == (OURS, "linear")
    assert json.loads((result / "metrics.json").read_text()) == work.finish()
    assert json.loads((result / "params.json").read_text()) == {"kind": "linear", "params": stage.job()["params"]}
    assert "walk starts on cpu with 1 worker(s)" in (result / "log.txt").read_text()
    assert (result / "trunk").read_text() == "walk 3"
    assert not (stage.folder / "checkpoints").exists()
    assert reported[-1] == (work.finish(), None)


def test_every_step_and_epoch_is_recorded_with_its_progress(stage: Stage) -> None:
    stage.run()
    lines, _ = journal.read(stage.folder / "journal.jsonl")
    steps = [line for line in lines if "s" in line and "e" not in line]
    assert [line["s"] for line in steps] == list(range(1, 13))
    assert [(line["e"], line["s"]) for line in lines if "e" in line] == [(0, 4), (1, 8), (2, 12)]
    assert steps[-1]["p"] == [3, 3, 1.0]


def test_checkpoints_are_taken_inside_epochs_and_between_them(stage: Stage, reported: list[Any]) -> None:
    stage.run()
    names = [name for _, name in reported if name]
    assert [int(name) for name in names] == [3, 4, 6, 8, 9]  # every third step, and the ends of all epochs but the last
    assert [set(numbers) for numbers, name in reported if name] == [{"epoch", "step"}] * 5


def test_checkpoints_between_epochs_wait_for_their_time(stage: Stage, reported: list[Any]) -> None:
    stage.run(checkpoint_every_s=3600, checkpoint_every_steps=0)
    assert [name for _, name in reported if name] == []


@pytest.mark.parametrize("stop_at", [1, 2, 4, 5, 8, 10, 12])
def test_a_killed_run_continues_bit_for_bit(stop_at: int, stage: Stage, calm: Any) -> None:
    with pytest.raises(SystemExit):
        stage.run(stop_at=stop_at)
    assert not (stage.folder / "result").exists()
    work = stage.run()
    assert stage.end() == calm
    log = (stage.folder / "log.txt").read_text()
    assert "ERROR worker 0: stopped from outside: SystemExit: killed\n" in log
    assert "Traceback" not in log
    last = max((total for total in (3, 4, 6, 8, 9) if total < stop_at), default=0)
    assert work.started[0] == divmod(last, STEPS)  # and not from the start
    assert ("continues from checkpoint" in log) is bool(last)


@pytest.mark.parametrize("taken_at", [1, 3, 4, 7, 8, 11])
def test_a_run_whose_node_is_taken_away_goes_on_at_the_very_next_step(
    taken_at: int, stage: Stage, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watch:
        """The node drains while step `taken_at` is under way."""

        def __init__(self, device: torch.device) -> None: ...

        def stops(self, total: int) -> bool:
            return total >= taken_at

        def close(self) -> None: ...

    with monkeypatch.context() as patch, pytest.raises(Preempted, match=f"after step {taken_at} with a checkpoint"):
        patch.setattr(loop, "Watch", Watch)
        stage.run(checkpoint_every_s=3600, checkpoint_every_steps=0)
    work = stage.run(checkpoint_every_s=3600, checkpoint_every_steps=0)
    assert work.started[0] == divmod(taken_at, STEPS)  # no step is taken twice
    assert stage.end() == calm


def test_a_run_killed_twice_and_with_a_damaged_checkpoint_still_ends_the_same(stage: Stage, calm: Any) -> None:
    for stop_at in (7, 11):
        with pytest.raises(SystemExit):
            stage.run(stop_at=stop_at)
    newest = stage.folder / "checkpoints" / "00000009" / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-7])
    assert stage.run().started[0] == (2, 0)  # from checkpoint 8
    assert stage.end() == calm


@pytest.mark.parametrize("older", ["damaged", "gone"])
def test_a_damaged_checkpoint_does_not_cost_those_made_after_it(older: str, stage: Stage, calm: Any) -> None:
    only = {"checkpoints": {"keep_last": 1}}
    with pytest.raises(SystemExit):
        stage.run(stop_at=11, **(only if older == "gone" else {}))
    for state in stage.folder.glob("checkpoints/*/state.pt"):
        state.write_bytes(state.read_bytes()[:-7])
    for _ in range(2):  # the second time from what the first has left
        with pytest.raises(SystemExit):
            stage.run(stop_at=8, **only)
    assert [path.name for path in (stage.folder / "checkpoints").iterdir()] == ["00000006"]
    work = stage.run(**only)
    assert work.started[0] == divmod(6, STEPS)
    assert stage.end() == calm


def test_a_run_killed_while_its_result_is_written_has_none(
    stage: Stage, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, into: Path, **facts: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(checkpoint, "seal", killed)
        stage.run(checkpoint_every_s=3600, checkpoint_every_steps=0)
    assert not (stage.folder / "result").exists()
    stage.run()
    assert stage.end() == calm


def test_a_finished_stage_returns_at_once(stage: Stage, reported: list[Any]) -> None:
    stage.run()
    before = stage.end()
    reported.clear()

    def build(job: Job, device: torch.device) -> Work:
        raise AssertionError("it was built again")

    loop.run(stage.job(), build)
    assert stage.end() == before
    assert reported == []


def test_a_damaged_result_is_computed_again(stage: Stage, calm: Any) -> None:
    stage.run()
    (stage.folder / "result" / "trunk").write_text("walk 4")
    stage.run()
    assert stage.end() == calm


def test_what_belongs_to_another_stage_is_refused(stage: Stage) -> None:
    stage.run()
    with pytest.raises(CheckpointError, match="belongs to fingerprint"):
        stage.run(fingerprint="b" * 16)
    other = Stage(stage.folder.parent / "other")
    with pytest.raises(SystemExit):
        other.run(stop_at=5)
    with pytest.raises(CheckpointError, match="belongs to fingerprint"):
        other.run(fingerprint="b" * 16)


def test_a_diverged_run_ends_before_a_checkpoint_holds_what_is_no_number(stage: Stage) -> None:
    for _ in range(2):  # again and again: from the last good checkpoint
        with pytest.raises(Diverged, match="lower the learning rate"):
            stage.run(loss_at={6: float("nan")})
        assert sorted(path.name for path in (stage.folder / "checkpoints").iterdir()) == ["00000003", "00000004"]
    assert not (stage.folder / "result").exists()
    assert "Diverged" in (stage.folder / "log.txt").read_text()


def test_weights_that_are_no_numbers_are_not_sealed_though_the_loss_is_finite(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(walk: Walk) -> dict[str, Any]:
        bad = walk._total > 2 * STEPS
        return {
            "weight": walk._weight,
            "speed": walk._speed,
            "model": {"w": torch.tensor(float("nan") if bad else 1.0)},
        }

    monkeypatch.setattr(Walk, "state", state)
    with pytest.raises(
        Diverged, match=r"weights are no finite numbers, w first.*good checkpoint is checkpoints/00000008"
    ):
        stage.run(checkpoint_every_steps=2)
    assert not (stage.folder / "result").exists()


def test_a_last_step_that_diverges_is_no_result(stage: Stage) -> None:
    with pytest.raises(Diverged):
        stage.run(loss_at={EPOCHS * STEPS: float("inf")})
    assert not (stage.folder / "result").exists()


def test_the_log_file_is_let_go(stage: Stage) -> None:
    stage.run()
    assert not [handler for handler in loop.log.handlers if isinstance(handler, logging.FileHandler)]


def test_ray_runs_it_in_local_mode(stage: Stage, calm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The trainer as `orchestration.backend` makes it for one worker, with nothing of Ray's replaced."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    monkeypatch.undo()

    def train(config: dict[str, Any]) -> None:
        loop.run(config, lambda job, device: Walk(stop_at=config["params"].pop("stop_at", 0)))

    def fit(config: dict[str, Any]) -> None:
        TorchTrainer(
            train,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=0),
            run_config=RunConfig(name="stage", storage_path=str(tmp_path / "ray")),
        ).fit()

    job = stage.job()
    with pytest.raises(SystemExit):
        fit(job | {"params": job["params"] | {"stop_at": 7}})
    fit(job)
    assert stage.end() == calm
    assert "continues from checkpoint 00000006: epoch 1, step 2" in (stage.folder / "log.txt").read_text()
