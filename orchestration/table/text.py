"""A `Table` becomes text for the terminal, Markdown, CSV, LaTeX or HTML; each names the runs behind every cell. Pure.

A number is bold (Markdown, LaTeX, HTML) where it is better than every other of its column that it may be ranked
against, and the confidence interval of each difference leaves out zero. Otherwise none is: the runs do not tell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import chain
from typing import Literal

from orchestration.table import html as table_html
from orchestration.table import latex as table_latex
from orchestration.table.cell import Cell, Table
from orchestration.table.grid import PLUS_MINUS, Entry, Grid, lay_out
from orchestration.table.statistics import Gap

Format = Literal["text", "md", "csv", "latex", "html"]

ENDS = ("", " std", " n", " runs", " missing")  # of the fields of a column of CSV
PUBLISHED, INTERVAL = (" published", " published source"), (" low", " high", " p")
WIDTH = 100  # characters; a table for the terminal that is wider has its columns written as rows
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|])")


def render(table: Table, form: Format = "text") -> str:
    """Return the table as text without a newline at its end."""
    if form == "csv":
        return _csv(table)
    forms = {"md": _markdown, "latex": table_latex.render, "html": table_html.render, "text": _text}
    return forms[form](lay_out(table))


def _text(grid: Grid) -> str:
    fields = [list(grid.heads), *([_plain(line.title), *map(_plain, line.entries)] for line in grid.lines)]
    lines = _aligned(fields)
    if max(map(len, lines)) > WIDTH:
        turned = _aligned([list(column) for column in zip(*fields, strict=True)])
        lines = min(lines, turned, key=lambda each: max(map(len, each)))
    notes = [f"[{mark}] {words}" for mark, words in grid.notes]
    return "\n".join([grid.title, "", *lines, "", *notes, grid.legend("*"), "", *grid.runs]).rstrip("\n")


def _plain(entry: Entry) -> str:
    text = f"{entry.text} *" if entry.best else entry.text
    return f"{text} [{' '.join(entry.marks)}]" if entry.marks else text


def _aligned(fields: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its first field to the left and the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*fields, strict=True))
    return [
        "  ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))]).rstrip()
        for row in fields
    ]


def _markdown(grid: Grid) -> str:
    lines = [
        "| " + " | ".join(map(_md, grid.heads)) + " |",
        "|---|" + "---:|" * (len(grid.heads) - 1),
        *("| " + " | ".join(map(_md_entry, (line.title, *line.entries))) + " |" for line in grid.lines),
    ]
    notes = [f"<sup>{mark}</sup> {_md(words)}  " for mark, words in grid.notes]
    runs = [f"- {_md(line)}" for line in grid.runs]
    return "\n".join([f"**{_md(grid.title)}**", "", *lines, "", *notes, _md(grid.legend()), "", *runs]).rstrip("\n")


def _md_entry(entry: Entry) -> str:
    text = f"**{_md(entry.text)}**" if entry.best else _md(entry.text)
    return text + (f" <sup>{' '.join(entry.marks)}</sup>" if entry.marks else "")


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text).replace(PLUS_MINUS, "&plusmn;")


def _csv(table: Table) -> str:
    """One line a row of the table, fields of each column beside each other, numbers unrounded, run ids whole.

    For machines. Columns of which something is published have a field for it; differences follow as rows of their own.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    facts = list(dict.fromkeys(name for i in range(len(table.rows)) for name in table.row(i).facts))
    shown = [any(row[j].published for row in table.cells) for j in range(len(table.columns))]
    heads = [
        [column.title + end for end in (*ENDS, *PUBLISHED * two, *INTERVAL * bool(table.apart))]
        for column, two in zip(table.columns, shown, strict=True)
    ]
    writer.writerow(["row", *facts, *chain(*heads)])
    for i, cells in enumerate(table.cells):
        known = [table.row(i).facts.get(name, "") for name in facts]
        fields = [_fields(cell, two) + [""] * (3 * bool(table.apart)) for cell, two in zip(cells, shown, strict=True)]
        writer.writerow([table.rows[i], *known, *chain(*fields)])
    for apart in table.apart:
        fields = [_interval(gap, two) for gap, two in zip(apart.gaps, shown, strict=True)]
        writer.writerow([apart.title, *[""] * len(facts), *chain(*fields)])
    return out.getvalue().rstrip("\n")


def _fields(cell: Cell, two: bool) -> list[str]:
    mean, std = ("" if value is None else repr(value) for value in (cell.mean, cell.std))
    claim = cell.published
    value = "" if claim is None else "unknown" if claim.value is None else repr(claim.value)
    said = [value, claim.source if claim else ""] if two else []
    return [mean, std, str(cell.n), " ".join(cell.run_ids), cell.missing, *said]


def _interval(gap: Gap | None, two: bool) -> list[str]:
    before = [repr(gap.mean), "", str(gap.n)] if gap else ["", "", "0"]
    return [*before, "", "", *[""] * (2 * two), *([repr(gap.low), repr(gap.high), repr(gap.p)] if gap else [""] * 3)]
