import contextlib
import io
import os
import pty
from typing import TextIO

import pytest

from orchestration import display as displays
from orchestration.display import Plain, PlainTransfer, counting, display, transfer
from orchestration.progress import Snapshot, StageView


def snapshot(fraction: float) -> Snapshot:
    stage = StageView("pretrain", "pretrain", ("leoclr",), "running", "1a2b3c4d", fraction=fraction)
    return Snapshot("quickstart", "9f8e7d6c", 0.0, (stage,))


def test_a_pipe_gets_plain_lines_and_progress_every_ten_seconds() -> None:
    now, stream = [0.0], io.StringIO()
    show = Plain(stream, clock=lambda: now[0])
    for second in range(26):
        now[0] = float(second)
        show(snapshot(second / 26))
    lines = stream.getvalue().splitlines()
    assert [line[:6] for line in lines] == ["[0:00]", "[0:10]", "[0:20]"]
    assert "\x1b" not in stream.getvalue()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variable", "value", "live"), [("TERM", "xterm", True), ("TERM", "dumb", False), ("CI", "true", False)]
)
def test_only_a_persons_terminal_is_redrawn(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, live: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv(variable, value)
    assert displays.is_live(Terminal()) is live
    assert displays.is_live(io.StringIO()) is False


def show_and_fail(stream: TextIO) -> None:
    with display(stream) as show:
        show(snapshot(0.5))
        raise ZeroDivisionError


def test_the_cursor_is_back_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream, pytest.raises(ZeroDivisionError):
        show_and_fail(stream)
    found = b""
    with contextlib.suppress(OSError):  # its other side is closed, and all was read
        while more := os.read(leader, 1 << 16):
            found += more
    os.close(leader)
    written = found.decode()
    assert "\x1b[?25l" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "quickstart" in written
    assert "50%" in written


def test_a_download_on_a_pipe_is_a_line_at_its_start_every_ten_seconds_and_at_its_end() -> None:
    now, stream = [0.0], io.StringIO()
    show = PlainTransfer(stream, "cifar10", clock=lambda: now[0])
    for second in range(26):
        now[0] = float(second)
        show(second * 1_000_000, 25_000_000)
    show(0, None)  # the next file, of a size that nobody tells
    assert stream.getvalue().splitlines() == [
        "cifar10: 0.0 of 25.0 MB",
        "cifar10: 10.0 of 25.0 MB",
        "cifar10: 20.0 of 25.0 MB",
        "cifar10: 25.0 of 25.0 MB",
        "cifar10: 0.0 MB",
    ]


def test_a_download_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    with transfer(stream, "cifar10") as show:
        show(1_000_000, 4_000_000)
        show(4_000_000, 4_000_000)
    assert "cifar10" in stream.getvalue()
    assert "4.0/4.0 MB" in stream.getvalue()


def test_a_count_is_shown_as_one_on_a_pipe_and_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    with counting(pipe, "imagenet", "images") as show:
        show(0, 1_331_167)
        show(16, 1_331_167)
        show(1_331_167, 1_331_167)
    assert pipe.getvalue().splitlines() == [
        "imagenet: 0 of 1,331,167 images",
        "imagenet: 1,331,167 of 1,331,167 images",
    ]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    terminal = Terminal()
    with counting(terminal, "imagenet", "images") as show:
        show(10, 40)
        show(40, 40)
    assert "40/40" in terminal.getvalue() and "images" in terminal.getvalue()
