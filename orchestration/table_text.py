"""A `Table` becomes text for the terminal, Markdown, CSV or LaTeX; each names the runs behind every cell. Pure.

A number is bold (Markdown, LaTeX) where it is the best of its column and its gap to the runner-up exceeds the larger of
both sample standard deviations, each over at least two runs. Otherwise nothing is: the runs do not tell the two apart.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Literal

from orchestration.table import SHORT, Cell, Table
from orchestration.table_spec import Column

Format = Literal["text", "md", "csv", "latex"]

DASH = "-"
WIDTH = 100  # characters; a table for the terminal that is wider has its columns written as rows
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: "\\" + c for c in "&%$#_{}"},
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|])")


def render(table: Table, form: Format = "text") -> str:
    """Return the table as text without a newline at its end."""
    if form == "csv":
        return _csv(table)
    if form == "md":
        return _markdown(table)
    return _latex(table) if form == "latex" else _text(table)


class _Notes:
    """Numbers the reasons of a table, each once."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, cell: Cell) -> str:
        """Return the number of the cell's reason; "" where nothing is missing. A new reason joins the list."""
        if not cell.missing:
            return ""
        if cell.missing not in self.reasons:
            self.reasons.append(cell.missing)
        return str(self.reasons.index(cell.missing) + 1)


def _text(table: Table) -> str:
    notes = _Notes()
    grid = [["", *(column.title for column in table.columns)]]
    for title, row in zip(table.rows, table.cells, strict=True):
        grid.append([title])
        for cell, column in zip(row, table.columns, strict=True):
            mark = notes.mark(cell)
            grid[-1].append(_number(cell, column, " +- ") + (f" [{mark}]" if mark else ""))
    lines = _aligned(grid)
    if max(map(len, lines)) > WIDTH:
        lines = _aligned([list(column) for column in zip(*grid, strict=True)])
    reasons = [f"[{i}] {reason}" for i, reason in enumerate(notes.reasons, 1)]
    return "\n".join([table.title, "", *lines, "", *reasons, _caption(table, "+-"), "", *_runs(table)])


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its first cell to the left and the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*grid, strict=True))
    return [
        "  ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))]).rstrip()
        for row in grid
    ]


def _markdown(table: Table) -> str:
    notes = _Notes()
    lines = [
        "| | " + " | ".join(_md(column.title) for column in table.columns) + " |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for title, row in zip(table.rows, table.cells, strict=True):
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            number, mark = _number(cell, column, " &plusmn; "), notes.mark(cell)
            cells.append((f"**{number}**" if cell.best else number) + (f" <sup>{mark}</sup>" if mark else ""))
        lines.append(f"| {_md(title)} | " + " | ".join(cells) + " |")
    reasons = [f"<sup>{i}</sup> {_md(reason)}  " for i, reason in enumerate(notes.reasons, 1)]
    runs = [f"- {_md(line)}" for line in _runs(table)]
    return "\n".join(
        [
            f"**{_md(table.title)}**",
            "",
            *lines,
            "",
            *reasons,
            _md(_caption(table, "+-")).replace("+-", "&plusmn;"),
            "",
            *runs,
        ]
    )


def _latex(table: Table) -> str:
    notes = _Notes()
    lines = [" & " + " & ".join(_tex(column.title) for column in table.columns) + r" \\", r"\midrule"]
    for title, row in zip(table.rows, table.cells, strict=True):
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            number, mark = _number(cell, column, r" $\pm$ "), notes.mark(cell)
            bold = rf"\textbf{{{number}}}" if cell.best else number.replace(DASH, "--") if cell.mean is None else number
            cells.append(bold + (f"$^{{{mark}}}$" if mark else ""))
        lines.append(f"{_tex(title)} & " + " & ".join(cells) + r" \\")
    reasons = [rf"$^{{{i}}}$ {_tex(reason)}." for i, reason in enumerate(notes.reasons, 1)]
    caption = " ".join([f"{_tex(table.title)}.", _tex(_caption(table, "+-")).replace("+-", r"$\pm$") + ".", *reasons])
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            *(f"% {line}" for line in _runs(table)),
        ]
    )


def _csv(table: Table) -> str:
    """One line a row of the table, five fields a column, numbers unrounded and run ids whole: for machines."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = ("", " std", " n", " runs", " missing")
    writer.writerow(["row", *(column.title + field for column in table.columns for field in fields)])
    for title, row in zip(table.rows, table.cells, strict=True):
        writer.writerow([title, *(value for cell in row for value in _fields(cell))])
    return out.getvalue().rstrip("\n")


def _fields(cell: Cell) -> list[str]:
    mean, std = ("" if value is None else repr(value) for value in (cell.mean, cell.std))
    return [mean, std, str(cell.n), " ".join(cell.run_ids), cell.missing]


def _number(cell: Cell, column: Column, between: str) -> str:
    """Return mean, spread if there are two runs, and the published value in parentheses."""
    ours = DASH
    if cell.mean is not None:
        ours = f"{cell.mean:.{column.decimals}f}"
    if cell.std is not None:
        ours += f"{between}{cell.std:.{column.decimals}f}"
    return ours if cell.published is None else f"{ours} ({cell.published:.{column.decimals}f})"


def _caption(table: Table, sign: str) -> str:
    counts = sorted({cell.n for row in table.cells for cell in row if cell.n})
    runs = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else "0"
    over = f"mean {sign} sample standard deviation over {runs} runs a cell" if counts[-1:] > [1] else "one run a cell"
    said = f"; in parentheses: {table.published_source}" if table.published_source else ""
    return f"{over}; submission {table.submission[:SHORT]} of {table.pipeline}, {table.status.lower()}{said}"


def _runs(table: Table) -> list[str]:
    """Return a line for each set of runs: the row, its columns that come from these runs, the ids."""
    lines = []
    for title, row in zip(table.rows, table.cells, strict=True):
        columns: dict[Sequence[str], list[str]] = {}
        for cell, column in zip(row, table.columns, strict=True):
            if cell.run_ids:
                columns.setdefault(cell.run_ids, []).append(column.title)
        lines += [
            f"{title}, {', '.join(titles)}: {' '.join(run_id[:SHORT] for run_id in ids)}"
            for ids, titles in columns.items()
        ]
    return lines


def _md(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _tex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
