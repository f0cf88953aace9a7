"""A `Table` laid out: heads, entries, numbered notes, caption and runs, as every text form shows them. Pure.

A column of which something is published becomes two, published and ours. What a form adds is how it writes a sign, a
bold number, a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from orchestration.table.cell import SHORT, Cell, Table
from orchestration.table.spec import Column, Published
from orchestration.table.statistics import CONFIDENCE, Gap

DASH = "-"
UNKNOWN = "claim unknown"
RULE = f"better than each comparable row, and the {CONFIDENCE:.0%} interval of the difference excludes 0"
PLUS_MINUS = "+-"  # as the terminal shows it; other forms put their sign there


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of the grid."""

    text: str
    best: bool = False
    marks: tuple[str, ...] = ()  # of notes
    href: str = ""  # where a page tells of it; the other forms leave it out


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the grid."""

    title: Entry
    entries: tuple[Entry, ...]
    is_difference: bool = False  # of two rows above


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]  # mark, words
    caption: tuple[str, ...]  # clauses
    rule: str  # what a bold number has shown; "" where none is
    runs: tuple[str, ...]  # a line for each set of runs: the row, its columns that come from these runs, the ids

    def legend(self, bold: str = "bold") -> str:
        """Return the caption as one sentence without its full stop; `bold` is how a form shows the best."""
        return "; ".join([*self.caption, *([f"{bold}: {self.rule}"] if self.rule else [])])


@dataclass(slots=True)
class _Notes:
    """Marks the notes of a table, each once: footnotes of the file by letters, why a number is missing by numbers."""

    letters: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    def flag(self, words: str) -> str:
        """Return the letter of a footnote; a new one joins the list."""
        if words not in self.letters:
            self.letters.append(words)
        return _letter(self.letters.index(words))

    def reason(self, words: str) -> tuple[str, ...]:
        """Return the number of a reason; a new one joins the list."""
        if not words:
            return ()
        if words not in self.numbers:
            self.numbers.append(words)
        return (str(self.numbers.index(words) + 1),)

    def listed(self) -> tuple[tuple[str, str], ...]:
        flags = ((_letter(i), words) for i, words in enumerate(self.letters))
        return (*flags, *((str(i), words) for i, words in enumerate(self.numbers, 1)))


@dataclass(frozen=True, slots=True)
class _Form:
    """What all lines of a grid have in common."""

    facts: Sequence[str]
    shown: Sequence[bool]  # by column: whether something of it is published
    mixed: bool  # cells differ in how many runs they have
    links: Mapping[tuple[int, int], str]


def lay_out(table: Table, links: Mapping[tuple[int, int], str] | None = None) -> Grid:
    """Return the grid of a table; `links`: where a page tells of a cell, by its row and column."""
    notes = _Notes()
    shown = [any(row[j].published for row in table.cells) for j in range(len(table.columns))]
    facts = list(dict.fromkeys(name for i in range(len(table.rows)) for name in table.row(i).facts))
    heads = ["", *facts]
    for column, two in zip(table.columns, shown, strict=True):
        heads += [f"{column.title} published", f"{column.title} ours"] if two else [column.title]
    count = _counts(table)
    form = _Form(facts, shown, mixed=len(count) > 1, links=links or {})
    lines = [_line(table, i, form, notes) for i in range(len(table.rows))]
    lines += _differences(table, len(facts), shown, notes)
    best = any(cell.best for row in table.cells for cell in row)
    return Grid(
        title=table.title,
        heads=tuple(heads),
        lines=tuple(lines),
        notes=notes.listed(),
        caption=tuple(_caption(table, count)),
        rule=RULE if best else "",
        runs=tuple(_runs(table)),
    )


def number(value: float, decimals: int) -> str:
    """Return a number for the eye; a huge one in powers of ten."""
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else f"{value:.{decimals}e}"


def _line(table: Table, i: int, form: _Form, notes: _Notes) -> Line:
    row = table.row(i)
    entries = [Entry(str(row.facts.get(name, ""))) for name in form.facts]
    title = Entry(table.rows[i], marks=tuple(notes.flag(_footnote(table, name)) for name in row.flags))
    for j, (cell, column, two) in enumerate(zip(table.cells[i], table.columns, form.shown, strict=True)):
        if two:
            entries.append(_claim(table, cell.published, column, notes))
        marks, href = notes.reason(cell.missing), form.links.get((i, j), "")
        entries.append(Entry(said(cell, column, mixed=form.mixed), cell.best, marks, href))
    return Line(title, tuple(entries))


def _claim(table: Table, claim: Published | None, column: Column, notes: _Notes) -> Entry:
    if claim is None:
        return Entry("")
    words = [_footnote(table, name) for name in claim.flags]
    if claim.source and claim.source != table.published_source:
        words.insert(0, claim.source)
    text = UNKNOWN if claim.value is None else number(claim.value, column.decimals)
    return Entry(text, marks=tuple(notes.flag(each) for each in words))


def _footnote(table: Table, name: str) -> str:
    return table.spec.flags[name] if table.spec else name


def said(cell: Cell, column: Column, *, mixed: bool = False) -> str:
    """Return mean, spread if there are two runs, and how many where that differs from cell to cell."""
    if cell.mean is None:
        return DASH
    spread = f" {PLUS_MINUS} {number(cell.std, column.decimals)}" if cell.std is not None else ""
    return number(cell.mean, column.decimals) + spread + (f" (n={cell.n})" if mixed else "")


def _differences(table: Table, facts: int, shown: Sequence[bool], notes: _Notes) -> Iterable[Line]:
    for apart in table.apart:
        entries = [Entry("")] * facts
        for gap, column, two in zip(apart.gaps, table.columns, shown, strict=True):
            entries += [Entry("")] * two
            entries.append(_gap(gap, column, notes) if gap else Entry(DASH))
        yield Line(Entry(apart.title), tuple(entries), is_difference=True)


def _gap(gap: Gap, column: Column, notes: _Notes) -> Entry:
    numbers = (gap.mean, gap.low, gap.high)
    mean, low, high = (f"{'+' if each >= 0 else ''}{number(each, column.decimals)}" for each in numbers)
    marks = () if gap.paired else notes.reason("fewer than two seeds in common: Welch's t")
    return Entry(f"{mean} [{low}, {high}]", marks=marks)


def _counts(table: Table) -> list[int]:
    return sorted({cell.n for row in table.cells for cell in row if cell.n})


def _caption(table: Table, counts: Sequence[int]) -> Iterable[str]:
    over = f"mean {PLUS_MINUS} sample standard deviation over"
    if counts == [1]:
        yield "one run a cell"
    elif counts:
        yield f"{over} {counts[0]} runs a cell" if len(counts) == 1 else f"{over} n runs"
    if gaps := [gap for apart in table.apart for gap in apart.gaps if gap and gap.paired]:
        pairs = " to ".join(dict.fromkeys(str(n) for n in (min(g.n for g in gaps), max(g.n for g in gaps))))
        yield f"differences with their {CONFIDENCE:.0%} interval by Student's t over {pairs} pairs of seeds"
    if any(gap is None for apart in table.apart for gap in apart.gaps):
        yield "no difference where a row has fewer than two runs, or the protocols differ"
    if table.submission:
        yield f"submission {table.submission[:SHORT]} of {table.pipeline}, {table.status.lower()}"
    elif table.spec and table.spec.pipelines and not all(cell.n for row in table.cells for cell in row):
        yield f"what would fill it: leoclr-ops plan --table {table.spec.name}"
    if table.published_source:
        yield f"published: {table.published_source}"
    yield from table.spec.notes if table.spec else ()


def _runs(table: Table) -> Iterable[str]:
    for title, row in zip(table.rows, table.cells, strict=True):
        columns: dict[Sequence[str], list[str]] = {}
        for cell, column in zip(row, table.columns, strict=True):
            if cell.run_ids:
                columns.setdefault(cell.run_ids, []).append(column.title)
        for ids, titles in columns.items():
            yield f"{title}, {', '.join(titles)}: {' '.join(run_id[:SHORT] for run_id in ids)}"


def _letter(i: int) -> str:
    """Return a, b, ... z, aa, ab, ... of a number from 0.

    >>> _letter(0), _letter(27)
    ('a', 'ab')
    """
    return (_letter(i // 26 - 1) if i >= 26 else "") + ascii_lowercase[i % 26]
