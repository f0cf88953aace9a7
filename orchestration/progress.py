"""What to show of a submission under way: `layout` fills a terminal, `events` says what is new. Both are pure.

Times are in seconds; `now` and `Snapshot.started` are those of the monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from orchestration.records import DIVERGED

StageState = Literal["waiting", "queued", "running", "done", "reused", "failed", "blocked", "stopped"]
Line = list[tuple[str, str]]  # pieces of text, each with its rich style
Key = tuple[str, tuple[str, ...]]  # a stage's name and arms: what tells it from the others

OVER: frozenset[StageState] = frozenset({"done", "reused", "failed", "blocked", "stopped"})
STYLES: dict[StageState, str] = {
    "running": "cyan", "done": "green", "reused": "green", "failed": "bold red", "blocked": "red", "stopped": "yellow",
    "queued": "dim", "waiting": "dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageView:
    """What the display knows of one stage; `fraction` is in [0, 1], times are in seconds."""

    name: str
    kind: str
    arms: tuple[str, ...]
    state: StageState
    run_id: str | None = None
    fraction: float = 0.0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    metric: tuple[str, float] | None = None
    images_per_s: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    note: str = ""

    @property
    def key(self) -> Key:
        return self.name, self.arms

    @property
    def word(self) -> str:
        """The state in one word: a stage that failed as its loss became no number has diverged."""
        return "diverged" if self.state == "failed" and self.note.startswith(DIVERGED) else self.state

    @property
    def reason(self) -> str:
        """The note beside the word."""
        return self.note.removeprefix(DIVERGED)

    @property
    def arm(self) -> str:
        """The arms that share the stage, in few words."""
        return self.arms[0] if len(self.arms) == 1 else f"{len(self.arms)} arms" if self.arms else ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a whole submission at one moment; `started` is `time.monotonic()` at its start."""

    pipeline: str
    run_id: str
    started: float
    stages: tuple[StageView, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a submission."""

    run_id: str  # of the submission's MLflow run
    failed: tuple[str, ...] = ()  # "stage arm: reason" of each stage that failed
    stopped: bool = False  # by Ctrl-C, SIGTERM or `cancel`


class Glyphs(NamedTuple):
    """What a progress bar is drawn with."""

    full: str
    empty: str


LINES = Glyphs("\u2501", "\u2500")  # heavy, light: told apart without color
ASCII = Glyphs("=", "-")


def duration(seconds: float) -> str:
    """Return a time as people read it.

    >>> duration(7.6), duration(61), duration(3725)
    ('0:08', '1:01', '1:02:05')
    """
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def remaining_s(stages: Sequence[StageView]) -> float | None:
    """Return the time that all stages still need, or None while that of any is unknown.

    A stage without an estimate is taken to last as long as those of its kind did; as many share the work as run now.
    """
    spent: dict[str, list[float]] = {}
    for stage in stages:
        if stage.state == "done":
            spent.setdefault(stage.kind, []).append(stage.seconds)
    total = 0.0
    for stage in (stage for stage in stages if stage.state not in OVER):
        if stage.seconds_left is not None:
            total += stage.seconds_left
        elif stage.kind in spent:
            mean = sum(spent[stage.kind]) / len(spent[stage.kind])
            total += mean * (1 - stage.fraction)
        else:
            return None
    return total / max(1, sum(stage.state == "running" for stage in stages))


def layout(snapshot: Snapshot, *, now: float, height: int, width: int, glyphs: Glyphs = LINES) -> list[Line]:
    """Return the lines that show `snapshot`: at most `height` of them, none wider than `width`.

    Where not all stages fit, those that run come first, then the failed, then the latest done; a line sums up others.
    """
    room = max(1, height - 4 - bool(snapshot.note))  # two lines of header, a blank, the column heads
    shown = _choose(snapshot.stages, room)
    keys = {stage.key for stage in shown}
    rest = [stage for stage in snapshot.stages if stage.key not in keys]
    lines = [*_header(snapshot, now=now, width=width, glyphs=glyphs), [("", "")], *_rows(shown, width, glyphs)]
    if rest:
        lines.append([(f"... and {_counts(rest)}", "dim")])
    if snapshot.note:
        lines.append([(snapshot.note, "yellow")])
    return [_cut(line, width) for line in lines[:height]]


def events(before: Snapshot | None, after: Snapshot, *, now: float, due: Collection[Key] = ()) -> list[str]:
    """Return a line for each stage whose state changed, and for each running stage in `due` (name, arms)."""
    old = {stage.key: stage.state for stage in before.stages} if before else {}
    clock = f"[{duration(now - after.started)}]"
    lines = [f"{clock} {after.note}"] if after.note and (before is None or before.note != after.note) else []
    reused = sum(stage.state == "reused" and old.get(stage.key) != "reused" for stage in after.stages)
    if reused:
        lines.append(f"{clock} {reused} of {len(after.stages)} stages finished earlier: reused")
    over = sum(stage.state in OVER for stage in after.stages)
    for stage in after.stages:
        told = stage.state not in ("waiting", "queued", "reused") or (stage.state == "queued" and stage.note != "")
        changed = told and old.get(stage.key) != stage.state
        if changed or (stage.state == "running" and stage.key in due):
            lines.append(f"{clock} {_label(stage)}: {_event(stage, changed)}{_tally(stage, over, len(after.stages))}")
    return lines


def _choose(stages: Sequence[StageView], room: int) -> list[StageView]:
    """Return the stages to show in `room` lines: all in their order, or the most telling first and room for a sum."""
    if len(stages) <= room:
        return list(stages)
    latest = list(reversed(stages))  # a plan is sorted by what needs what, so what ended last stands last, near enough
    running = [stage for stage in stages if stage.state == "running"]
    failed = [stage for stage in stages if stage.state in ("failed", "stopped")]
    done = [stage for stage in latest if stage.state == "done"]
    others = [stage for state in ("queued", "waiting", "blocked", "reused") for stage in stages if stage.state == state]
    return [*running, *failed, *done, *others][: room - 1]


def _counts(stages: Sequence[StageView]) -> str:
    count = Counter(stage.word for stage in stages)
    order = ("done", "reused", "running", "queued", "waiting", "blocked", "stopped", "diverged", "failed")
    return ", ".join(f"{count[word]} {word}" for word in order if count[word])


def _header(snapshot: Snapshot, *, now: float, width: int, glyphs: Glyphs) -> list[Line]:
    stages = snapshot.stages
    left = remaining_s(stages)
    over = sum(stage.state in ("done", "reused") for stage in stages)
    fraction = sum(1.0 if s.state in OVER else s.fraction for s in stages) / max(1, len(stages))
    unfinished = any(stage.state not in OVER for stage in stages)
    times = f"  {duration(now - snapshot.started)}" + (f", about {duration(left)} left" if left and unfinished else "")
    bar_width = min(24, max(4, width // 4))
    title: Line = [(snapshot.pipeline, "bold"), (f"  run {snapshot.run_id[:8]}", "dim"), (times, "")]
    return [title, [*_bar(fraction, bar_width, glyphs), (f" {over}/{len(stages)}  {_counts(stages)}", "")]]


def _bar(fraction: float, width: int, glyphs: Glyphs, style: str = "green") -> Line:
    full = min(width, int(width * fraction + 1e-9))
    return [(glyphs.full * full, style), (glyphs.empty * (width - full), "dim")]


HEADS = ("stage", "arm", "progress", "loss", "metric", "img/s", "time")


def _rows(stages: Sequence[StageView], width: int, glyphs: Glyphs) -> list[Line]:
    """Return the column heads and a line a stage; where the window is narrow, columns go: img/s first, loss last."""
    cells = [_cells(stage) for stage in stages]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(HEADS)]
    widths[0], widths[1] = min(widths[0], 24), min(widths[1], 32) if any(row[1] for row in cells) else 0
    for column in (5, 4, 3, 1):
        if sum(widths) - widths[2] + len(HEADS) - 1 + 8 + 5 <= width:
            break
        widths[column] = 0
    gaps = sum(size > 0 for size in widths) - 1
    widths[2] = max(11, min(30, width - (sum(widths) - widths[2]) - gaps))
    columns = enumerate(zip(HEADS, widths, strict=True))
    head = " ".join(_fit(text, size, right=i in (3, 5, 6)) for i, (text, size) in columns if size)
    return [[(head, "dim")], *(_row(stage, row, widths, glyphs) for stage, row in zip(stages, cells, strict=True))]


def _row(stage: StageView, cells: tuple[str, ...], widths: Sequence[int], glyphs: Glyphs) -> Line:
    start = " ".join(_fit(cells[i], widths[i]) for i in (0, 1) if widths[i]) + " "
    style = STYLES[stage.state]
    if stage.note and stage.state in ("failed", "blocked", "stopped"):
        return [(start, ""), (f"{stage.word}: ", style), (stage.reason, "")]
    if stage.state == "running":
        middle = [*_bar(stage.fraction, widths[2] - 5, glyphs, style), (f" {stage.fraction:4.0%}", "")]
    else:
        middle = [(_fit(cells[2], widths[2]), style)]
    end = "".join(" " + _fit(cells[i], widths[i], right=i != 4) for i in (3, 4, 5, 6) if widths[i])
    return [(start, "dim" if style == "dim" else ""), *middle, (end, "")]


def _cells(stage: StageView) -> tuple[str, ...]:
    """Return the texts of a stage's columns, as HEADS names them."""
    left = f"{duration(stage.seconds_left)} left" if stage.seconds_left is not None else duration(stage.seconds)
    time_text = left if stage.state == "running" else duration(stage.seconds) if stage.state == "done" else ""
    return (
        stage.name,
        stage.arm,
        stage.word,
        "" if stage.loss is None else f"{stage.loss:.4g}",
        "" if stage.metric is None else f"{stage.metric[0]} {stage.metric[1]:.1f}",
        f"{stage.images_per_s:.0f}" if stage.images_per_s and stage.state == "running" else "",
        time_text,
    )


def _fit(text: str, size: int, *, right: bool = False) -> str:
    """Return `text` in exactly `size` columns; what is cut off shows as `~`."""
    text = text if len(text) <= size else text[: max(0, size - 1)] + "~"[:size]
    return text.rjust(size) if right else text.ljust(size)


def _cut(line: Line, width: int) -> Line:
    """Return `line` no wider than `width`, without trailing blanks."""
    kept: Line = []
    for text, style in line:
        kept.append((text[: max(0, width)], style))
        width -= len(text)
    if kept:
        kept[-1] = (kept[-1][0].rstrip(), kept[-1][1])
    return kept


def _label(stage: StageView) -> str:
    return f"{stage.name} {stage.arm}".rstrip()


def _event(stage: StageView, changed: bool) -> str:
    metric = f"{stage.metric[0]} {stage.metric[1]:.1f}" if stage.metric else ""
    if stage.state == "running" and changed and not stage.fraction:
        return "started" + (f" (run {stage.run_id[:8]})" if stage.run_id else "")
    if stage.state == "running":
        parts = [f"{stage.fraction:.0%}", f"epoch {stage.epoch}/{stage.epochs}" if stage.epochs else ""]
        parts += [f"loss {stage.loss:.4g}" if stage.loss is not None else "", metric]
        parts += [f"{stage.images_per_s:.0f} images/s" if stage.images_per_s else ""]
        parts += [f"{duration(stage.seconds_left)} left" if stage.seconds_left is not None else ""]
        return ", ".join(filter(None, parts))
    if stage.state == "done":
        return f"done in {duration(stage.seconds)}" + (f", {metric}" if metric else "")
    return stage.word + (f": {stage.reason}" if stage.note else "")


def _tally(stage: StageView, over: int, count: int) -> str:
    return f" ({over} of {count})" if stage.state == "done" else ""
