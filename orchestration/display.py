"""Show what takes long while it runs: redrawn on a terminal, a line an event on a pipe and in CI."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from orchestration import progress
from orchestration.progress import Key, Snapshot

EVENT_EVERY_S = 10.0  # between two lines on the progress of one stage, where lines cannot be redrawn


@contextmanager
def display(stream: TextIO) -> Iterator[Callable[[Snapshot], None]]:
    """Yield the function that shows a snapshot on `stream`; the terminal's cursor is back at the end, come what may."""
    if is_live(stream):
        with _live(stream) as show:
            yield show
    else:
        yield Plain(stream)


def is_live(stream: TextIO) -> bool:
    """Return whether lines on `stream` can be redrawn: a person's terminal, neither a dumb one nor that of a CI."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


class Plain:
    """Writes a line an event, each at once."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._before: Snapshot | None = None
        self._told: dict[Key, float] = {}

    def __call__(self, snapshot: Snapshot) -> None:
        """Write what changed since the last snapshot, and how stages get on that were silent for EVENT_EVERY_S."""
        now = self._clock()
        running = {stage.key for stage in snapshot.stages if stage.state == "running"}
        due = {key for key in running if now - self._told.setdefault(key, now) >= EVENT_EVERY_S}
        self._told |= dict.fromkeys(due, now)
        for line in progress.events(self._before, snapshot, now=now, due=due):
            print(line, file=self._stream, flush=True)
        self._before = snapshot


@contextmanager
def _live(stream: TextIO) -> Iterator[Callable[[Snapshot], None]]:
    from rich.console import Console  # here: 0.2 s that `--help` does not need
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
    glyphs = progress.LINES if unicode else progress.ASCII
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(snapshot: Snapshot) -> None:
            width, height = console.size  # read each time: windows are resized
            # One line and one column less than the window: a full window scrolls, and that flickers.
            size = {"height": height - 1, "width": width - 1}
            lines = progress.layout(snapshot, now=time.monotonic(), glyphs=glyphs, **size)
            live.update(Text("\n", no_wrap=True).join(Text.assemble(*line) for line in lines), refresh=True)

        yield show


@contextmanager
def transfer(stream: TextIO, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield the function that shows how many bytes of a file are there, of how many; None where nobody knows."""
    if is_live(stream):
        with _live_transfer(stream, name) as show:
            yield show
    else:
        yield PlainTransfer(stream, name)


@contextmanager
def counting(stream: TextIO, name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield the function that shows how many of a known number are done; `unit` names them."""
    if is_live(stream):
        with _live_counting(stream, name, unit) as show:
            yield show
    else:
        yield PlainTransfer(stream, name, unit=unit, scale=1)


class PlainTransfer:
    """Writes a line when a file begins, every EVENT_EVERY_S, and when it is whole."""

    def __init__(
        self,
        stream: TextIO,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        unit: str = "MB",
        scale: int = 1_000_000,
    ) -> None:
        self._stream, self._name, self._clock = stream, name, clock
        self._unit, self._scale = unit, scale
        self._told, self._before = -EVENT_EVERY_S, 0

    def __call__(self, done: int, total: int | None) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        if now - self._told >= EVENT_EVERY_S or done < self._before or (done == total and done != self._before):
            of = f" of {self._number(total)}" if total else ""
            print(f"{self._name}: {self._number(done)}{of} {self._unit}", file=self._stream, flush=True)
            self._told = now
        self._before = done

    def _number(self, count: int) -> str:
        return f"{count:,}" if self._scale == 1 else f"{count / self._scale:.1f}"


@contextmanager
def _live_transfer(stream: TextIO, name: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream, highlight=False)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _live_counting(stream: TextIO, name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream, highlight=False)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
