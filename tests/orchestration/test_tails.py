from pathlib import Path

from orchestration.tails import Artifact, File, Tail


class Kept:
    """A store that has the log of one run."""

    def __init__(self) -> None:
        self.log, self.reads = "", 0

    def sizes(self, run_id: str, folder: str) -> dict[str, int]:
        return {"live/log.txt": len(self.log.encode())} if self.log else {}

    def text(self, run_id: str, file: str) -> str:
        self.reads += 1
        assert file == "live/log.txt"
        return self.log


def test_whole_lines_come_once(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    tail = Tail(File(log), prefix="knn | ")
    assert list(tail.more()) == []
    log.write_text("one\r\ntwo\nthr")
    assert list(tail.more()) == ["knn | one", "knn | two"]
    log.write_text("one\r\ntwo\nthree\n")
    assert list(tail.more()) == ["knn | three"]
    log.write_text("one\r\ntwo\nthree\nfo")
    assert list(tail.more()) == []
    assert list(tail.more(whole=False)) == ["knn | fo"]


def test_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("1\n2\n3\n4")
    assert list(Tail(File(log)).last(2, whole=True)) == ["2", "3"]
    assert list(Tail(File(log)).last(2, whole=False)) == ["3", "4"]
    assert list(Tail(File(log)).last(None, whole=False)) == ["1", "2", "3", "4"]


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"a\xff\n")
    assert list(Tail(File(tmp_path / "log.txt")).more()) == ["a\ufffd"]


def test_a_log_elsewhere_is_fetched_when_it_grew() -> None:
    store = Kept()
    tail = Tail(Artifact(store, "run"))  # type: ignore[arg-type]  # a fake
    assert list(tail.more()) == []
    store.log = "\u00e9ins\nzw"
    assert list(tail.more()) == ["\u00e9ins"]
    assert list(tail.more()) == []
    store.log = "\u00e9ins\nzwei\n"
    assert list(tail.more()) == ["zwei"]
    assert store.reads == 2
