"""A sweep as a part of the page: what `sweep` prints, its figures, and its trials with links to their runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestration.figure.style import Picture
from orchestration.figure.write import pictures
from orchestration.report.collect import Chapter
from orchestration.report.html import Cell, Html, anchor, heading, join, link, table, tag
from orchestration.report.sections import figure, run_id
from orchestration.sweep.cells import dimensions, label_of
from orchestration.sweep.page import Block, Grid, Heading, page
from orchestration.sweep.result import SweepResult, Trial
from orchestration.sweep.words import DASH, axis_title, show, with_unit

Runs = Mapping[str, Mapping[str, Sequence[str]]]  # run ids by stage, by the run of a trial


def blocks(result: SweepResult, level: int, prefix: str) -> Html:
    """Return the tables and words of a sweep; the page's own title is left out."""
    title, parts = "", list[Html]()
    for block in page(result)[1:]:
        if isinstance(block, Heading):
            title = block.text
        parts.append(_block(block, result, title=title, level=level, prefix=prefix))
    return join(parts)


def _block(block: Block, result: SweepResult, *, title: str, level: int, prefix: str) -> Html:
    if isinstance(block, Heading):
        return heading(level + block.level - 2, block.text)
    if isinstance(block, Grid):
        return _grid(block, result, title or result.title, prefix)
    return join(tag("p", words, class_="note") for words in block)


def _grid(grid: Grid, result: SweepResult, title: str, prefix: str) -> Html:
    """Return a table; where its rows are points, their names and numbers lead to the trials."""
    heads, *rows = grid.rows
    ours = {with_unit(objective) for objective in result.objectives}
    body = []
    for i, row in enumerate(rows, 1):
        trials = grid.trials[i] if grid.trials else ()
        target = _trial_id(prefix, trials[0]) if trials else ""
        fields: list[str | Cell] = []
        for j, text in enumerate(row):
            linked = link(target, text) if target and (j == 0 or heads[j] in ours) else text
            fields.append(Cell(linked, best=True) if (i, j) in grid.bold else linked)
        body.append(fields)
    return table(title, heads, body, words=grid.left, quiet=True)


def figures(result: SweepResult, prefix: str) -> Html:
    """Return the figures of a sweep."""
    found: Iterator[Picture] = pictures(result)
    return join(figure(each, f"{prefix}-{anchor('figure', each.name)}") for each in found)


def trials(chapter: Chapter, prefix: str) -> Html:
    """Return every trial, its numbers links to their runs."""
    result = chapter.sweep
    if result is None or not result.trials:
        return Html()
    axes = dimensions(result)
    heads = ["trial", *(axis_title(axis.name) for axis in axes), "seed", "state", *map(with_unit, result.objectives)]
    rows: list[list[str | Cell]] = []
    for trial in sorted(result.trials, key=lambda each: each.number):
        name = tag("span", str(trial.number), id=_trial_id(prefix, trial.number))
        labels = [label_of(trial, axis) or DASH for axis in axes]
        state = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
        seed = "all" if trial.seed is None else str(trial.seed)
        rows.append([name, *labels, seed, state, *_values(trial, chapter, result)])
    return table("Every trial: choose a number to see the run that it is of.", heads, rows, words=3 + len(axes))


def _values(trial: Trial, chapter: Chapter, result: SweepResult) -> Iterator[str]:
    for objective in result.objectives:
        if objective.title not in trial.values:
            yield DASH
            continue
        said = show(trial.values[objective.title], objective.unit)
        runs = chapter.trials.get(trial.run_id or "", {}).get(objective.stage, ())
        if len(runs) == 1:
            yield link(run_id(runs[0]), said)
        else:
            yield join([said, *(link(run_id(run), run[:4]) for run in runs)], " ")


def _trial_id(prefix: str, number: int) -> str:
    return f"{prefix}-trial-{number}"
