import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration import watch
from orchestration.errors import StoreError
from orchestration.watch import Watch, watching


class Tracker:
    """A store that keeps tags and files; it can be down."""

    def __init__(self, *, is_served: bool = True) -> None:
        self.of = {"leoclr.attempt_ms": "7"}
        self.files: list[tuple[str, str, str | None]] = []
        self.is_served, self.down = is_served, False

    def tags(self, run_id: str) -> dict[str, str]:
        if self.down:
            raise StoreError("connection refused")
        return self.of

    def log_files(self, run_id: str, files: list[Path], folder: str | None = None) -> None:
        if self.down:
            raise StoreError("connection refused")
        self.files += [(run_id, file.read_text(), folder) for file in files]


class Recorder:
    def __init__(self, **folders: Path) -> None:
        self.folders = folders


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.01)
    monkeypatch.setattr(watch, "LOG_S", 0.01)


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_wish_for_this_attempt_is_heard_and_no_other() -> None:
    store = Tracker()
    with watching(store, "parent", Recorder()) as cancelled:  # type: ignore[arg-type]  # fakes
        store.of = {"leoclr.attempt_ms": "7", "leoclr.cancel": "6"}  # of the attempt that this one continues
        time.sleep(0.1)
        assert not cancelled.is_set()
        store.down = True
        time.sleep(0.05)
        store.of = {"leoclr.attempt_ms": "7", "leoclr.cancel": "7"}
        store.down = False
        wait(cancelled.is_set)


def test_a_log_is_brought_when_it_grew_and_once_more_at_its_end(tmp_path: Path) -> None:
    store, recorder = Tracker(), Recorder(stage=tmp_path)
    log = tmp_path / "log.txt"
    bringer = Watch(store, "parent", recorder)  # type: ignore[arg-type]  # fakes
    bringer.bring_once()  # there is none yet
    log.write_text("one\n")
    bringer.bring_once()
    bringer.bring_once()
    assert store.files == [("stage", "one\n", "live")]
    store.down = True
    log.write_text("one\ntwo\n")
    bringer.bring_once()
    store.down, recorder.folders = False, {}
    bringer.bring_once()  # it ended meanwhile
    log.write_text("one\ntwo\nthree\n")
    bringer.bring_once()
    assert store.files[1:] == [("stage", "one\ntwo\n", "live")]


def test_a_huge_log_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_BYTES", 3)
    (tmp_path / "log.txt").write_text("1234")
    store = Tracker()
    Watch(store, "parent", Recorder(stage=tmp_path)).bring_once()  # type: ignore[arg-type]  # fakes
    assert not store.files


@pytest.mark.parametrize("is_served", [True, False])
def test_logs_go_where_other_machines_see_them(tmp_path: Path, is_served: bool) -> None:
    (tmp_path / "log.txt").write_text("one\n")
    store = Tracker(is_served=is_served)
    with watching(store, "parent", Recorder(stage=tmp_path)):  # type: ignore[arg-type]  # fakes
        pass
    assert bool(store.files) == is_served
