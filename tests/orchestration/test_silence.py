"""A frozen process is ended after so long a silence; no clock, no pause of our own, and no work makes silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from jobs import alive
from jobs.alive import Process
from orchestration import silence
from orchestration.silence import Silence

OWNER = Process(4711, 1.5, "")


class Desk:
    """A stage's folder, and a watch on it whose clock stands until it is set."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 100.0
        self.ended: list[Process] = []
        self.silence = Silence(self.ended.append, lambda: self.now)

    def sign(self, at_s: float) -> None:
        path = self.folder / alive.FILE
        path.write_text(json.dumps(asdict(OWNER)))
        os.utime(path, (at_s, at_s))

    def look(self, seconds: float, limit_s: float = 60.0) -> int:
        """Look every second for so long; return how often something was ended."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.silence.look({self.folder: limit_s})
        return len(self.ended)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_silent_process_is_ended_once_a_limit(desk: Desk) -> None:
    desk.sign(1e9)
    assert desk.look(60) == 0
    assert desk.look(1) == 1
    assert desk.ended == [OWNER]
    assert desk.look(59) == 1
    assert desk.look(1) == 2


def test_every_sign_counts_whatever_the_clocks_say(desk: Desk) -> None:
    for at_s in (1e9, 1e9 - 3600, 5e9, 1e9 - 3600 * 24):  # an hour back, years ahead, a day back
        desk.sign(at_s)
        assert desk.look(59) == 0


def test_a_pause_of_our_own_blames_nobody(desk: Desk) -> None:
    desk.sign(1e9)
    desk.look(30)
    desk.now += 3600
    assert desk.look(60) == 0
    assert desk.look(1) == 1


def test_a_stage_without_signs_or_without_a_limit_is_left_alone(desk: Desk) -> None:
    assert desk.look(200) == 0
    desk.sign(1e9)
    assert desk.look(200, limit_s=0) == 0
    (desk.folder / alive.FILE).write_text('{"pid": 4')
    assert desk.look(200) == 0


def test_a_trial_that_is_silent_is_ended_though_its_stage_is_not(desk: Desk) -> None:
    trial = desk.folder / "trials" / "lr=0.1"
    trial.mkdir(parents=True)
    frozen = Process(4712, 2.5, "")
    (trial / alive.FILE).write_text(json.dumps(asdict(frozen)))
    for second in range(80):
        desk.sign(1e9 + second)
        desk.look(1)
    assert desk.ended == [frozen]


def test_a_sign_that_cannot_be_given_is_given_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utime, fails = os.utime, [1, 2, 3]

    def touch(path: Path) -> None:
        if fails:
            fails.pop()
            raise OSError("stale file handle")
        utime(path)

    monkeypatch.setattr(alive, "BEAT_S", 0.02)
    monkeypatch.setattr(os, "utime", touch)
    with alive.beating(tmp_path):
        found = alive.read(tmp_path)
        deadline = time.monotonic() + 10
        while alive.read(tmp_path) == found and time.monotonic() < deadline:
            time.sleep(0.01)
        assert alive.read(tmp_path) != found


def test_signs_are_given_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "BEAT_S", 0.02)
    with alive.beating(tmp_path):
        found = alive.read(tmp_path)
        assert found[tmp_path][0] == Process(os.getpid(), psutil.Process().create_time(), "")
        deadline = time.monotonic() + 10
        while alive.read(tmp_path) == found and time.monotonic() < deadline:
            time.sleep(0.01)
        assert alive.read(tmp_path) != found
    assert not list(tmp_path.iterdir())


def test_a_stopped_process_is_killed_and_another_of_its_number_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = psutil.Process(child.pid)
        process.suspend()
        silence.end(child.pid, process.create_time() - 100)
        assert child.poll() is None
        silence.end_on_its_node(Process(child.pid, process.create_time(), ""))
        assert child.wait(10) == -9
        silence.end(child.pid, process.create_time())
    finally:
        child.kill()
