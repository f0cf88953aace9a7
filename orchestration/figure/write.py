"""The figures of a sweep: which ones its result asks for, written as PNG and SVG with a page of captions.

grid, one axis of categories (and methods)   bars of the change from the baseline, as figure 4 of LeOCLR
grid, one axis of numbers (and methods)      a curve with its band, on a log scale where the axis has one, as figure 5
grid, two axes of numbers                    a curve along each, the other one as colors
grid of more axes                            the main effects, a panel an axis
search                                       parallel coordinates; the best so far and the importance of the axes
two objectives                               their Pareto front, beside the figures of each
Data sets and protocols have figures of their own; published values stand in a panel of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orchestration.figure.bars import bars
from orchestration.figure.curves import curve, effects
from orchestration.figure.pareto import pareto
from orchestration.figure.search import parallel, progress
from orchestration.figure.series import across
from orchestration.figure.style import MAX_SIZE, Picture, save
from orchestration.sweep.cells import GRID, cells, parts, result_of, varied
from orchestration.sweep.compare import front
from orchestration.sweep.result import Objective, SweepResult
from orchestration.sweep.shares import by_share
from orchestration.sweep.words import axis_title, one_line, slug

PAGE = "figures.md"
MOST_AXES = 2  # of a figure: x and color


def write(result: SweepResult, folder: Path) -> list[Path]:
    """Write the figures that the result asks for into a folder; return the paths, the page of captions last.

    Nothing is written for a sweep without a single number. The same result gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    said: list[str] = []
    for picture in pictures(result):
        written = save(picture, folder)
        paths += written
        alt = re.sub(r"([\\\[\]])", r"\\\1", one_line(picture.caption))
        said.append(f"![{alt}]({written[0].name})\n\n{one_line(picture.caption)}")
    if paths:
        page = folder / PAGE
        page.write_text("\n\n".join([f"# {one_line(result.title)}", *said]) + "\n", encoding="utf-8")
        paths.append(page)
    return paths


def pictures(result: SweepResult) -> Iterator[Picture]:
    """Yield the figures, drawn and not written, their names distinct."""
    names: set[str] = set()
    several = parts(by_share(result))
    for i, part in enumerate(several):
        for picture in _pictures(part):
            name = f"{picture.name}-{slug(part.name.removeprefix(result.name))}" if len(several) > 1 else picture.name
            name = name if name not in names else f"{name}-{i + 1}"
            names.add(name)
            yield replace(picture, name=name)


def _pictures(result: SweepResult) -> Iterator[Picture]:
    known = [each for each in result.objectives if _has_number(result, each)]
    used: set[str] = set()
    for objective in known:
        suffix = "" if len(result.objectives) == 1 else f"-{slug(objective.title)}"
        suffix += f"-{len(used)}" if suffix in used else ""
        used.add(suffix)
        for picture in _of_objective(result, objective):
            yield replace(picture, name=picture.name + suffix)
    if len(result.objectives) == 2 and len(known) == 2 and front(cells(result), result.objectives):
        yield pareto(result)


def _of_objective(result: SweepResult, objective: Objective) -> Iterator[Picture]:
    axes = varied(result)
    if result.search != GRID:
        yield parallel(result, objective)
        yield progress(result, objective)
    elif len(axes) > MOST_AXES:
        yield effects(result, objective)
    elif len(numeric := [axis for axis in axes if axis.scale != "category"]) > 1:
        for each in numeric:
            yield replace(curve(result, objective, each), name=f"curve-{slug(axis_title(each.name))}")
    elif (x := across(result)) is not None:
        yield bars(result, objective, x) if x.scale == "category" else curve(result, objective, x)


def _has_number(result: SweepResult, objective: Objective) -> bool:
    values = (result_of(trial, objective) for trial in result.trials)
    return any(value is not None and abs(value) < MAX_SIZE for value in values)
