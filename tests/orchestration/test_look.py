import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from orchestration import look, records, text
from orchestration.errors import NotFound, StoreError
from orchestration.records import StageRun, Submission
from orchestration.storage import Home

NOW_MS = int(time.time() * 1000)


def stage_run(
    run_id: str, status: records.Status, *, stage: str = "linear", parent: str = "aaaa1111", **tags: str
) -> StageRun:
    known = {records.FINGERPRINT: f"f{run_id}", records.ATTEMPT_MS: str(NOW_MS - 5000), **tags}
    ended = None if status == "RUNNING" else NOW_MS
    return StageRun(
        run_id, stage, stage, "leoclr seed=0", status, {"top1": 90.0}, known, {}, NOW_MS - 5000, ended, parent
    )


class FakeStore:
    """The part of Store that looking uses, in memory."""

    is_served = False

    def __init__(
        self, runs: Iterable[StageRun], *, status: records.Status = "RUNNING", pid: int = 0, created: float = 0.0
    ) -> None:
        self.runs = {run.run_id: run for run in runs}
        self.status, self.pid, self.created = status, pid, created
        self.ended: list[str] = []

    def submissions(self, *, newest: int | None = None, running: bool = False) -> list[Submission]:
        arms = {"leoclr seed=0": {run.stage: run.run_id for run in self.runs.values()}}
        ended = None if self.status == "RUNNING" else NOW_MS
        owner = (socket.gethostname(), self.pid, self.created)
        return [
            Submission(
                "aaaa1111",
                "quickstart",
                "t",
                self.status,
                NOW_MS - 9000,
                ended,
                NOW_MS - 9000,
                arms,
                {},
                *owner,
                NOW_MS,
            )
        ]

    def submission(self, run_id: str) -> Submission | None:
        return next((each for each in self.submissions() if each.run_id == run_id), None)

    def running(self) -> tuple[list[Submission], list[StageRun]]:
        submissions = [each for each in self.submissions() if each.status == "RUNNING"]
        return submissions, [run for run in self.runs.values() if run.status == "RUNNING"]

    def stage_runs(self, run_ids: Iterable[str]) -> dict[str, StageRun]:
        return {run_id: self.runs[run_id] for run_id in run_ids if run_id in self.runs}

    def find(self, reference: str) -> str:
        return next(run_id for run_id in ("aaaa1111", *self.runs) if run_id.startswith(reference))

    def end(self, run_id: str, status: records.Status, *, reason: str = "", **_: int | None) -> None:
        self.ended.append(run_id)
        if run_id == "aaaa1111":
            self.status = status
        else:
            self.runs[run_id] = stage_run(run_id, status, stage=self.runs[run_id].stage, **{records.REASON: reason})

    def fetch(self, run_id: str, file: str) -> Path:
        raise StoreError(f"no file {file}")


def alive(runs: Iterable[StageRun]) -> FakeStore:
    return FakeStore(runs, pid=os.getpid(), created=psutil.Process().create_time())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def write(home: Home, run_id: str, file: str, text: str) -> Path:
    path = home.stage(f"f{run_id}") / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_running_stage_shows_the_progress_of_its_journal(home: Home) -> None:
    lines = [{"s": 1, "m": {}, "p": [1, 8, 0.01]}, {"s": 9, "m": {}, "p": [3, 8, 0.31]}, {"e": 3, "s": 9, "m": {}}]
    write(home, "bbbb", "journal.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"s": 10, "p": [4')
    store = alive([stage_run("bbbb", "RUNNING"), stage_run("cccc", "FINISHED", stage="pretrain", parent="other")])
    (seen,) = look.status(store, home)  # type: ignore[arg-type]  # a fake
    assert seen.state == "running"
    running, reused = seen.stages
    assert (running.state, running.epoch, running.epochs, running.fraction) == ("running", 3, 8, 0.31)
    assert (reused.state, reused.fraction) == ("reused", 1.0)
    assert store.ended == []


def test_nothing_is_said_to_run_that_nobody_runs(home: Home) -> None:
    store = FakeStore([stage_run("bbbb", "RUNNING")], pid=os.getpid(), created=1.0)  # the id is another process' by now
    (seen,) = look.status(store, home)  # type: ignore[arg-type]  # a fake
    assert (seen.state, seen.stages[0].state) == ("stopped", "stopped")
    assert "is gone" in seen.stages[0].reason
    assert store.ended == ["bbbb", "aaaa1111"]


def test_seconds_of_a_run_are_those_of_all_its_attempts(home: Home) -> None:
    tags = {records.EARLIER_S: "100", records.SECONDS: "17.5"}
    store = alive([stage_run("bbbb", "RUNNING", **tags), stage_run("cccc", "FAILED", stage="transfer", **tags)])
    running, failed = look.status(store, home)[0].stages  # type: ignore[arg-type]  # a fake
    assert 105 <= running.seconds < 105 + 86_400  # however slow the machine
    assert failed.seconds == 17.5


def test_a_long_journal_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({"s": 1, "m": {"loss": 1.0}, "p": [1, 8, 0.1]}) + "\n"
    path.write_text(line * (3 * look.TAIL_BYTES // len(line)) + '{"p": [7, 8, 0.9]}\n')
    assert look.progress_of(path) == (7, 8, 0.9)
    path.write_text("x" * 2 * look.TAIL_BYTES + '"p":[1]}\n' + '{"y": 1}\n')  # cut inside the only line with progress
    assert look.progress_of(path) == (0, 0, 0.0)
    path.write_text('{"p": [3, 8, 0.4]}\n{"p": [4, 8, 0.5}\n{"p": "all"}\n')  # damaged by the disk
    assert look.progress_of(path) == (3, 8, 0.4)
    assert look.progress_of(tmp_path / "absent") == (0, 0, 0.0)


def test_json_has_no_number_that_is_not_one(home: Home) -> None:
    run = stage_run("bbbb", "FAILED")
    run.metrics["loss"] = float("nan")
    (seen,) = look.status(alive([run]), home, "bbbb")  # type: ignore[arg-type]  # a fake
    text = json.dumps(look.to_json(seen), allow_nan=False)
    assert json.loads(text)["stages"][0]["metrics"] == {"top1": 90.0, "loss": None}


def test_a_divergence_is_a_state_of_its_own_and_names_its_checkpoint(home: Home) -> None:
    why = "Diverged: the loss is nan; the last good checkpoint is checkpoints/00000120, after step 120"
    runs = [stage_run("bbbb", "FAILED", stage="a", **{records.REASON: why}), stage_run("cccc", "FAILED", stage="b")]
    (seen,) = look.status(alive(runs), home, "aaaa1111")  # type: ignore[arg-type]  # a fake
    assert [(stage.state, stage.reason) for stage in seen.stages] == [("diverged", why), ("failed", "")]
    shown = text.of_status([seen])
    assert "diverged" in shown
    assert "checkpoints/00000120" in shown


def test_the_last_lines_of_a_log(home: Home) -> None:
    write(home, "bbbb", "log.txt", "one\ntwo\nthree")
    store = alive([stage_run("bbbb", "FAILED")])
    assert list(look.logs(store, home, "bbbb")) == ["one", "two", "three"]  # type: ignore[arg-type]  # a fake
    assert list(look.logs(store, home, "bbbb", lines=1)) == ["three"]  # type: ignore[arg-type]  # a fake


def test_a_submission_shows_the_logs_of_its_running_and_failed_stages(home: Home) -> None:
    for run_id in ("bbbb", "cccc", "dddd"):
        write(home, run_id, "log.txt", f"from {run_id}\n")
    runs = [
        stage_run("bbbb", "FAILED", stage="a"),
        stage_run("cccc", "FINISHED", stage="b"),
        stage_run("dddd", "RUNNING", stage="c"),
    ]
    lines = list(look.logs(alive(runs), home, "aaaa"))  # type: ignore[arg-type]  # a fake
    assert lines == ["a leoclr seed=0 | from bbbb", "c leoclr seed=0 | from dddd"]


def test_following_ends_with_the_run_and_loses_no_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "POLL_S", 0.02)
    path = write(home, "bbbb", "log.txt", "first\n")
    store = alive([stage_run("bbbb", "RUNNING")])

    def work() -> None:
        with path.open("a") as file:
            for number in range(50):
                file.write(f"line {number}\n")
                file.flush()
                time.sleep(0.002)
            file.write("last, without a newline")
        store.end("bbbb", "FINISHED")

    worker = threading.Thread(target=work)
    worker.start()
    lines = list(look.logs(store, home, "bbbb", follow=True))  # type: ignore[arg-type]  # a fake
    worker.join()
    assert lines == ["first", *(f"line {number}" for number in range(50)), "last, without a newline"]


def test_a_log_that_is_nowhere_is_said_to_be(home: Home) -> None:
    with pytest.raises(NotFound, match="it left no log"):
        list(look.logs(alive([stage_run("bbbb", "FAILED")]), home, "bbbb"))  # type: ignore[arg-type]  # a fake
    with pytest.raises(NotFound, match="none of its stages"):
        list(look.logs(alive([stage_run("bbbb", "FINISHED")]), home, "aaaa"))  # type: ignore[arg-type]  # a fake
