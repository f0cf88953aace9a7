"""Every number reaches the tracking store exactly once, whatever fails in between."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.journal import Journal
from orchestration import recorder
from orchestration.connection import Connection
from orchestration.errors import StoreError
from orchestration.plan import Plan
from orchestration.recorder import Progress, Recorder
from orchestration.records import Point
from orchestration.storage import Home
from orchestration.tracking import Store

RUN = "r" * 32
STEP = {"s": 1, "t": 1000, "m": {"loss": 2.5, "lr": 0.1}, "p": [1, 4, 0.125]}
EPOCH = {"e": 0, "s": 2, "t": 2000, "m": {"knn_top1": 70.0, "other": 1.0}}
SAMPLE = {"y": 1, "t": 3000, "m": {"images_per_s": 640.0}, "p": [2, 4, 0.5]}


class Tracker:
    """A store that keeps what it is sent, as MLflow does: one of each. It can be down, and lose an answer."""

    def __init__(self) -> None:
        self.points: Counter[tuple[str, Point]] = Counter()
        self.tags: dict[str, str] = {}
        self.requests, self.beats = 0, 0
        self.down = self.deaf = self.broken = False  # deaf: it takes the points and fails before it says so

    def log_points(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        self.requests += 1
        if self.broken:
            raise KeyError("tags")
        if self.down:
            raise StoreError("connection refused")
        self.tags |= tags
        self.points.update((run_id, point) for point in points)
        if self.deaf:
            raise StoreError("timed out")

    def heartbeat(self, run_ids: Sequence[str]) -> None:
        self.beats += 1
        assert list(run_ids) == ["parent"]
        if self.down:
            raise StoreError("connection refused")

    def kept(self) -> list[tuple[str, float, int, int]]:
        return sorted((p.key, p.value, p.step, p.timestamp_ms) for _, p in self.points)


ALL = [
    ("images_per_s", 640.0, 1, 3000),
    ("knn_top1", 70.0, 2, 2000),
    ("loss", 2.5, 1, 1000),
    ("lr", 0.1, 1, 1000),
    ("other", 1.0, 2, 2000),
]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def start(tracker: Tracker) -> Iterator[Callable[[], Recorder]]:
    """Return what starts a recorder, as each process has one; all are closed at the end."""
    started: list[Recorder] = []

    def begin() -> Recorder:
        started.append(Recorder(tracker, "parent"))  # type: ignore[arg-type]  # all that it asks of a Store
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the thread asleep: what is sent is sent by `drain`."""
    monkeypatch.setattr(recorder, "LOOK_S", 1000.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LOOK_S": 0.01, "SEND_S": 0.02, "RETRY_S": 0.05, "HEARTBEAT_S": 0.03}.items():
        monkeypatch.setattr(recorder, name, seconds)


def write(folder: Path, *lines: dict[str, Any], end: str = "") -> None:
    with (folder / "journal.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + end)


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_every_kind_of_line_becomes_points(idle: None, start: Any, tracker: Tracker, tmp_path: Path) -> None:
    ours = start()
    ours.follow(RUN, tmp_path)  # before there is a journal
    write(tmp_path, STEP, EPOCH, SAMPLE, end='{"s": 2, "t"')
    ours.drain(RUN)
    assert tracker.kept() == ALL
    assert {run_id for run_id, _ in tracker.points} == {RUN}


def test_what_was_sent_is_not_sent_again(idle: None, start: Any, tracker: Tracker, tmp_path: Path) -> None:
    write(tmp_path, STEP)
    for _ in range(2):  # the second time without anything new
        ours = start()
        ours.follow(RUN, tmp_path)
        ours.drain(RUN)
    assert tracker.requests == 1
    write(tmp_path, EPOCH, SAMPLE)
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    assert tracker.kept() == ALL
    assert set(tracker.points.values()) == {1}


def test_a_line_that_is_half_written_is_sent_once_it_is_whole(
    idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    text = json.dumps(SAMPLE) + "\n"
    write(tmp_path, STEP, EPOCH, end=text[:9])
    ours = start()
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    assert len(tracker.points) == 4
    write(tmp_path, end=text[9:])
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    assert tracker.kept() == ALL


def test_a_process_that_dies_between_sending_and_marking_sends_the_same_points(
    idle: None, start: Any, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path, text: str) -> None:
        raise SystemExit("killed")

    write(tmp_path, STEP, EPOCH, SAMPLE)
    first = start()
    first.follow(RUN, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(recorder, "write_atomic", dies)
        first.drain(RUN)
    second = start()
    second.follow(RUN, tmp_path)
    second.drain(RUN)
    assert tracker.kept() == ALL  # equal in key, value, step and time: MLflow keeps one of each
    assert set(tracker.points.values()) == {2}


@pytest.mark.parametrize("fault", ["down", "deaf"])
def test_a_drain_that_fails_can_be_repeated(
    fault: str, idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    write(tmp_path, STEP)
    ours = start()
    ours.follow(RUN, tmp_path)
    setattr(tracker, fault, True)
    with pytest.raises(StoreError):
        ours.drain(RUN)
    assert ours.progress(RUN).epochs == 4  # it is still followed
    write(tmp_path, EPOCH, SAMPLE)
    setattr(tracker, fault, False)
    ours.drain(RUN)
    assert tracker.kept() == ALL


def test_the_thread_carries_numbers_over_while_a_stage_runs(
    quick: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    ours = start()
    ours.follow(RUN, tmp_path)
    write(tmp_path, STEP)
    wait(lambda: len(tracker.points) == 2)
    write(tmp_path, EPOCH, SAMPLE)
    wait(lambda: len(tracker.points) == 5)
    wait(lambda: tracker.beats >= 2)
    ours.drain(RUN)
    assert set(tracker.points.values()) == {1}
    assert ours.trouble == ""


def test_a_store_that_is_down_for_a_while_misses_nothing(
    quick: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    tracker.down = True
    ours = start()
    ours.follow(RUN, tmp_path)
    write(tmp_path, STEP)
    wait(lambda: ours.trouble == "numbers wait on disk: connection refused")
    write(tmp_path, EPOCH, SAMPLE)
    wait(lambda: ours.progress(RUN).fraction == 0.5)  # the display goes on meanwhile
    assert not tracker.points
    tracker.down = False
    wait(lambda: len(tracker.points) == 5)
    wait(lambda: ours.trouble == "")
    assert tracker.kept() == ALL
    assert set(tracker.points.values()) == {1}


HARM = [
    b"",
    b'{"s":2,"t":1500,"m":{"loss":2.25},"p":[1,4,0.25]',
    b'{"s":2,"t":1500,"n":{"loss":2.25},"p":[1,4,0.25]}',  # as one bit makes it of "m"
    b'{"r":2,"t":1500,"m":{"loss":2.25},"p":[1,4,0.25]}',
    b'{"s":2,"t":1500,"m":{"loss":"2.25"},"p":[1,4,0.25]}',
    b'{"s":2,"t":1500,"m":{"loss":2.25},"p":[1,4]}',
    b"\xff\x00",
    b"[2]",
    b"[" * 100_000,
]


@pytest.mark.parametrize("harm", HARM, ids=range(len(HARM)))
def test_a_damaged_line_is_left_out_and_told(
    harm: bytes, idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    write(tmp_path, STEP)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(harm + b"\n")
    ours = start()
    ours.follow(RUN, tmp_path)
    write(tmp_path, EPOCH, SAMPLE)
    ours.drain(RUN)
    assert tracker.kept() == ALL
    text = "line 2 of the journal is damaged, its numbers are left out"
    assert tracker.tags[recorder.DAMAGE] == text
    assert ours.trouble == f"stages/{tmp_path.name}: {text}"  # also once it is drained


def test_damage_is_told_where_there_is_nothing_else_to_tell(
    idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    write(tmp_path, STEP)
    ours = start()
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write("{}\n" * 12)
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    damage = "lines 2, 3, 4, 5, 6, 7, 8, 9 and 4 more of the journal are damaged, their numbers are left out"
    assert tracker.tags[recorder.DAMAGE] == damage


def test_the_thread_goes_on_after_a_damaged_line(quick: None, start: Any, tracker: Tracker, tmp_path: Path) -> None:
    ours = start()
    ours.follow(RUN, tmp_path)
    (tmp_path / "journal.jsonl").write_bytes(HARM[2] + b"\n")
    wait(lambda: "line 1 of the journal is damaged" in ours.trouble)
    write(tmp_path, STEP, EPOCH, SAMPLE)
    wait(lambda: len(tracker.points) == 5)
    beats = tracker.beats
    wait(lambda: tracker.beats > beats)
    assert tracker.kept() == ALL


def test_what_nobody_foresaw_ends_no_thread(quick: None, start: Any, tracker: Tracker, tmp_path: Path) -> None:
    tracker.broken = True
    ours = start()
    ours.follow(RUN, tmp_path)
    write(tmp_path, STEP, EPOCH, SAMPLE)
    wait(lambda: ours.trouble == "numbers wait on disk: KeyError: 'tags'")
    beats = tracker.beats
    wait(lambda: tracker.beats > beats)
    with pytest.raises(KeyError):
        ours.drain(RUN)
    tracker.broken = False
    wait(lambda: len(tracker.points) == 5)
    wait(lambda: ours.trouble == "")


@pytest.mark.parametrize("mark", ["99999", "7", "0", "-1", "", "x", "9" * 40])
def test_a_damaged_mark_costs_a_second_sending(
    mark: str, idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    write(tmp_path, STEP, EPOCH, SAMPLE)
    (tmp_path / "journal.sent").write_text(mark)
    ours = start()
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    assert tracker.kept() == ALL
    assert ours.trouble == ""


def test_a_journal_that_the_disk_does_not_read_is_tried_again(
    idle: None, start: Any, tracker: Tracker, tmp_path: Path
) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    ours = start()
    with pytest.raises(StoreError, match="the journal cannot be read"):
        ours.follow(RUN, tmp_path)
    (tmp_path / "journal.jsonl").rmdir()
    write(tmp_path, STEP, EPOCH, SAMPLE)
    ours.follow(RUN, tmp_path)
    ours.drain(RUN)
    assert tracker.kept() == ALL


def test_progress_is_that_of_the_journal(idle: None, start: Any, tmp_path: Path) -> None:
    ours = start()
    assert ours.progress(None) == ours.progress(RUN) == Progress()
    write(tmp_path, STEP, EPOCH)
    ours.follow(RUN, tmp_path)
    seen = ours.progress(RUN)
    assert (seen.epoch, seen.epochs, seen.fraction, seen.loss) == (1, 4, 0.125, 2.5)
    assert (seen.metric, seen.images_per_s) == (("knn_top1", 70.0), None)
    ours.drain(RUN)
    assert ours.progress(RUN) == Progress()
    write(tmp_path, SAMPLE)
    ours.follow(RUN, tmp_path)  # a stage that continues: what was sent long ago still tells how far it is
    seen = ours.progress(RUN)
    assert (seen.epoch, seen.fraction, seen.loss) == (2, 0.5, 2.5)
    assert (seen.metric, seen.images_per_s) == (("knn_top1", 70.0), 640.0)


def test_mlflow_keeps_one_of_each(idle: None, store: Store, home: Home, tmp_path: Path) -> None:
    plan = Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    run_id = store.begin_submission(plan, title="", spec_yaml="", arm_labels={}, resume=None)
    write(tmp_path, STEP, EPOCH, SAMPLE)
    for _ in range(2):
        ours = Recorder(store, run_id)
        ours.follow(run_id, tmp_path)
        ours.drain(run_id)
        ours.close()
        (tmp_path / "journal.sent").unlink()  # as after a kill before it was written
    client = store._client
    for key, value, step, timestamp in ALL:
        (point,) = client.get_metric_history(run_id, key)
        assert (point.value, point.step, point.timestamp) == (value, step, timestamp)


def test_a_server_that_never_answers_holds_up_no_step(
    quick: None, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as deaf:  # its backlog accepts every connection, and nothing ever reads from one
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        link = Connection(home, f"http://127.0.0.1:{deaf.getsockname()[1]}")
        ours = Recorder(Store(home, link, experiment_id="1", artifact_root="mlflow-artifacts:/"), "parent")
        ours.follow(RUN, tmp_path)
        book, longest = Journal(tmp_path / "journal.jsonl", steps=60), 0.0
        for step in range(1, 61):
            began = time.monotonic()
            book.step(step, {"loss": 1.0, "images": 8}, (1, 1, step / 60))
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
        book.close()
        wait(lambda: "numbers wait on disk" in ours.trouble)
        wait(lambda: ours.progress(RUN).fraction == 1.0)  # the display goes on
        assert longest < 2.5  # one look at the server takes 3 s
        ours.close()
