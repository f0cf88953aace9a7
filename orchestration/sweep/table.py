"""A `SweepResult` becomes text: Markdown for a page, aligned lines for the terminal, CSV for machines. Pure."""

from __future__ import annotations

import csv as writing
import io
import json
import re
from collections.abc import Sequence

from orchestration.sweep.cells import dimensions, label_of
from orchestration.sweep.page import Block, Grid, Heading, page
from orchestration.sweep.result import SweepResult
from orchestration.sweep.words import PLUS_MINUS, one_line

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|&#~])")


def markdown(result: SweepResult) -> str:
    """Return all that is known of a sweep as a Markdown page, without a newline at its end."""
    return "\n\n".join(_markdown(block) for block in page(result))


def text(result: SweepResult) -> str:
    """Return the same for the terminal."""
    return "\n\n".join(_text(block) for block in page(result))


def csv(result: SweepResult) -> str:
    """Return a line a trial, numbers unrounded and run ids whole, lists as JSON: for machines."""
    out = io.StringIO()
    writer = writing.writer(out, lineterminator="\n")
    axes = dimensions(result)
    about = ("trial", "state", "reason", "seed", "run", "seconds")
    titles = (axis.name for axis in axes), (each.title for each in result.objectives)
    writer.writerow([*about, *(one_line(title) for group in titles for title in group)])
    for trial in sorted(result.trials, key=lambda trial: trial.number):
        seed = "" if trial.seed is None else trial.seed
        known = [trial.number, trial.state, one_line(trial.reason), seed, trial.run_id or "", repr(trial.seconds)]
        point = [_exact(trial.point.get(axis.name, label_of(trial, axis))) for axis in axes]
        values = [repr(trial.values[each.title]) if each.title in trial.values else "" for each in result.objectives]
        writer.writerow([*known, *point, *values])
    return out.getvalue().rstrip("\n")


def _exact(value: object) -> str:
    if value is None:
        return ""
    return one_line(value) if isinstance(value, str) else json.dumps(value, default=str)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_md(block.text)}"
    if isinstance(block, Grid):
        return _table(block)
    return "  \n".join(map(_md, block))


def _table(grid: Grid) -> str:
    cells = [
        [f"**{_md(cell)}**" if (i, j) in grid.bold else _md(cell) for j, cell in enumerate(row)]
        for i, row in enumerate(grid.rows)
    ]
    head, *rows = ["| " + " | ".join(row) + " |" for row in _padded(cells, grid.left)]
    rule = "|" + "".join("---|" if j < grid.left else "---:|" for j in range(len(cells[0])))
    return "\n".join([head, rule, *rows])


def _text(block: Block) -> str:
    if isinstance(block, Heading):
        return block.text
    if isinstance(block, Grid):
        cells = [
            [cell + "*" if (i, j) in block.bold else cell for j, cell in enumerate(row)]
            for i, row in enumerate(block.rows)
        ]
        return "\n".join("  ".join(row).rstrip() for row in _padded(cells, block.left))
    return "\n".join(block)


def _padded(rows: Sequence[Sequence[str]], left: int) -> list[list[str]]:
    """Return the cells at the width of their column, words to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [cell.ljust(w) if j < left else cell.rjust(w) for j, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]


def _md(said: str) -> str:
    return _MARKDOWN.sub(r"\\\1", said).replace(PLUS_MINUS, "&plusmn;")
