"""The sections of a chapter that come from numbers: its table, its single runs, its curves, its cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestration.figure.inline import inline
from orchestration.figure.learning import stroke
from orchestration.figure.style import Picture
from orchestration.progress import duration
from orchestration.report.collect import Chapter
from orchestration.report.cost import cost
from orchestration.report.curves import MOST, shown
from orchestration.report.html import Html, anchor, heading, join, link, show, table, tag
from orchestration.table import html as table_html
from orchestration.table.cell import Cell, Table
from orchestration.table.grid import lay_out, number

_INTERVAL = re.compile(r"\[([-+.0-9e]+), ([-+.0-9e]+)\]")  # stays in one line
DASHES = {"-": "", "--": "6 3", ":": "1.5 3", "-.": "7 3 1.5 3"}  # of a line, by Matplotlib's name


def run_id(run: str) -> str:
    """Return the id of the element that tells of a run."""
    return anchor("run", run)


def section(level: int, title: str, name: str, *content: str) -> Html:
    """Return a section with its heading; nothing where there is no content."""
    inside = join(content)
    return tag("section", join([heading(level, title, name), inside]), aria_labelledby=name) if inside else Html()


def result(chapter: Chapter, prefix: str) -> Html:
    """Return the table of a chapter, each number a link to its run, or to its line among the single runs."""
    if chapter.table is None:
        return Html()
    grid = lay_out(chapter.table, _links(chapter.table, prefix))
    text = table_html.fragment(replace(grid, runs=()))  # they are linked
    text = _INTERVAL.sub(r"[\1,&nbsp;\2]", text)
    return Html(text.replace("<caption>", '<caption class="hidden">', 1) if grid.title == chapter.title else text)


def _links(found: Table, prefix: str) -> dict[tuple[int, int], str]:
    return {
        (i, j): f"#{run_id(cell.run_ids[0]) if cell.n == 1 else _place(prefix, i, j)}"
        for i, row in enumerate(found.cells)
        for j, cell in enumerate(row)
        if cell.run_ids
    }


def _place(prefix: str, i: int, j: int) -> str:
    return f"{prefix}-cell-{i}-{j}"


def singles(chapter: Chapter, prefix: str) -> Html:
    """Return the single runs behind each cell, a line a seed, each number a link to its run."""
    if chapter.table is None or not any(cell.n > 1 for row in chapter.table.cells for cell in row):
        return Html()
    found = chapter.table
    heads = ["", "seed", *(column.title for column in found.columns)]
    rows: list[list[str]] = []
    for i, cells in enumerate(found.cells):
        for seed in dict.fromkeys(seed for cell in cells for seed in cell.values):
            line = [_single(found, cell, seed, (i, j), prefix) for j, cell in enumerate(cells)]
            rows.append([found.rows[i], seed_words(seed), *line])
    return table("Every run behind the table: choose a number to see what it is made of.", heads, rows, words=2)


def _single(found: Table, cell: Cell, seed: str, at: tuple[int, int], prefix: str) -> str:
    if seed not in cell.values:
        return ""
    seeds = list(cell.values)
    text = number(cell.values[seed], found.columns[at[1]].decimals)
    target = run_id(cell.run_ids[seeds.index(seed)])
    if seed != seeds[0]:
        return link(target, text)
    return tag("a", text, href=f"#{target}", id=_place(prefix, *at))


def seed_words(seed: str) -> str:
    """Return the labels that a table averages over, in words.

    >>> seed_words('{"seed": "0"}'), seed_words("[1, 1]")
    ('0', '1')
    """
    said, _ = json.JSONDecoder().raw_decode(seed)  # a second run of a seed has its id behind it
    if isinstance(said, list):
        return ", ".join(dict.fromkeys(map(str, said)))
    return " ".join(value if axis == "seed" else f"{axis}={value}" for axis, value in said.items())


def curves(chapter: Chapter, pictures: Sequence[Picture], prefix: str, level: int) -> Html:
    """Return the learning curves, under one legend."""
    if not pictures:
        return Html()
    more = len(chapter.groups) - len(shown(chapter))
    cut = f" The first {MOST} of {len(chapter.groups)} arms are drawn." if more else ""
    several = any(len(runs) > 1 for group in chapter.groups for runs in group.runs.values())
    band = "Mean and one sample standard deviation over seeds" if several else "One run a line"
    said = (
        f"{band}; short stretches of steps are averaged.{cut} Losses of different methods are different functions: "
        "their shapes compare, their levels do not."
    )
    legend = tag(
        "ul",
        join(
            tag("li", join([_swatch(i), show(group.title)], ""))
            for i, group in enumerate(shown(chapter))
        ),
        class_="legend", aria_label="legend of the curves",
    )  # fmt: skip
    drawn = (_plot(each, f"{prefix}-{anchor('plot', each.name)}", level) for each in pictures)
    return join([tag("p", said, class_="note"), legend, tag("div", join(drawn), class_="plots")])


def _swatch(place: int) -> Html:
    color, line = stroke(place)
    style = f"stroke: var(--f-{color[1:]}, {color}); stroke-width: 2.5; stroke-dasharray: {DASHES[line] or 'none'}"
    return Html(f'<svg viewBox="0 0 36 10" aria-hidden="true"><path d="M1 5H35" style="{style}"/></svg>')


def _plot(picture: Picture, prefix: str, level: int) -> Html:
    return tag("figure", join([heading(level, picture.title), Html(inline(picture, prefix))]), class_="card")


def figure(picture: Picture, prefix: str) -> Html:
    """Return a figure that is wider than a phone, with its caption; it scrolls in a region of its own."""
    label = f"figure: {picture.name}"
    svg = Html(inline(picture, prefix))
    drawn = tag("div", svg, class_="wide", role="region", tabindex="0", aria_label=label)
    return tag("figure", join([drawn, tag("figcaption", picture.caption)]), class_="card")


def costs(chapter: Chapter) -> Html:
    """Return the hours of a chapter, by arm and stage."""
    found = cost(chapter)
    if not found.runs:
        return Html()
    most = max((sum(took.values()) for _, took in found.rows), default=0.0) or 1.0
    rows = [[title, *_times(found.stages, took), _total(sum(took.values()), most)] for title, took in found.rows]
    sums = {stage: sum(took.get(stage, 0.0) for _, took in found.rows) for stage in found.stages}
    if len(rows) > 1:
        rows.append(["all", *_times(found.stages, sums), _total(found.total, 0.0)])
    reused = f", {found.reused} of them reused from other submissions" if found.reused else ""
    said = (
        f"{found.total / 3600:.3g} hours in {found.runs} runs{reused}. Times are h:mm:ss of the wall clock, all "
        "attempts and seeds together; runs at the same time share the machine. A run that arms share counts once."
    )
    heads = ["", *(stage.replace("_", " ") for stage in found.stages), "together"]
    return join([tag("p", said, class_="note"), table("Time by arm and stage", heads, rows)])


def _times(stages: Iterable[str], took: Mapping[str, float]) -> list[str]:
    return [duration(took[stage]) if stage in took else "" for stage in stages]


def _total(total: float, most: float) -> Html:
    bar = f'<span class="bar" style="--share: {100 * total / most:.1f}%" aria-hidden="true"></span>' if most else ""
    return Html(f"{show(duration(total))}{bar}")
