"""What a reader is told of a sweep, as blocks: its points, main effects, Pareto front, importance of axes. Pure.

A mean is bold where it is clearly the best of its column (`sweep_compare.best`). Nothing is bold otherwise: the runs do
not tell the first two apart. Published values stand beside ours with their source and take no part in that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestration.sweep.baselines import Baselines, baselines, compared
from orchestration.sweep.cells import (
    GRID,
    Cell,
    anchors_of,
    cells,
    fixed,
    parts,
    result_of,
    summary,
    varied,
)
from orchestration.sweep.compare import best, difference, front, main_effects, ranked
from orchestration.sweep.importance import FORESTS, importance, left_out
from orchestration.sweep.result import Axis, Objective, SweepResult
from orchestration.sweep.shares import by_share
from orchestration.sweep.words import (
    DASH,
    axis_title,
    one_line,
    points,
    reasons,
    show,
    show_published,
    show_value,
    spread,
    state,
    with_unit,
)

MOST_ROWS = 25  # of a search; the rest is in the CSV


@dataclass(frozen=True, slots=True)
class Heading:
    """A title of what follows; level 1 is the page's own."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. Its first row is the header, its first `left` columns hold words."""

    rows: list[list[str]]
    left: int
    bold: frozenset[tuple[int, int]] = frozenset()  # row, column
    trials: tuple[tuple[int, ...], ...] = ()  # behind each row, where rows are points; the header has none


Block = Heading | Grid | list[str]  # a list: paragraphs


@dataclass(slots=True)
class _Notes:
    """Footnotes, each text once."""

    texts: dict[str, int] = field(default_factory=dict)  # number by text

    def mark(self, text: str) -> str:
        """Return ` [1]` for a text, which joins the list if it is new; "" for no text."""
        if not text:
            return ""
        return f" [{self.texts.setdefault(text, len(self.texts) + 1)}]"

    def block(self) -> list[Block]:
        """Return the notes, numbered."""
        return [[f"[{i}] {note}." for note, i in self.texts.items()]] if self.texts else []


def page(result: SweepResult) -> list[Block]:
    """Return all that is to be said of a sweep; each data set and protocol has tables of its own."""
    blocks: list[Block] = [Heading(one_line(result.title) or one_line(result.name), 1), [_census(result)]]
    several = parts(by_share(result))
    for part in several:
        if len(several) > 1:
            blocks.append(Heading(one_line(part.title), 2))
        blocks += _points(_at_the_end(part))
        blocks += _schedules(part)
        for objective in part.objectives:
            blocks += _effects(part, objective)
        blocks += _front(part)
        if result.search != GRID:
            blocks += [block for objective in part.objectives for block in _importance(part, objective)]
    return blocks


def _census(result: SweepResult) -> str:
    counts = Counter(trial.state for trial in result.trials)
    said = ", ".join(f"{n} {name}" for name, n in counts.most_common())
    hours = sum(trial.seconds for trial in result.trials) / 3600
    trials = f"{len(result.trials)} trials: {said}; {hours:.2g} h of trials." if said else "No trial has begun."
    return f"Sweep {one_line(result.name)}, {one_line(result.search)}. {trials}"


def _points(result: SweepResult) -> list[Block]:
    """Return the table of all cells and what it takes to read it."""
    found, notes = cells(result), _Notes()
    if not found or not result.objectives:
        return [] if not found else [["The sweep has no objective."]]
    axes, bases = varied(result), baselines(result, found)
    changes = any(bases.of(cell) for cell in found)
    shown = found if result.search == GRID else _best_first(found, result.objectives[0])[:MOST_ROWS]
    table = [[_title(axis.name) for axis in axes] or ["point"]]
    table += [[one_line(cell.labels.get(axis.name, DASH)) for axis in axes] or ["all"] for cell in shown]
    bold: set[tuple[int, int]] = set()
    for objective in result.objectives:
        top = best(found, objective)
        bold |= {(row, len(table[0])) for row, cell in enumerate(shown, 1) if cell is top}
        columns = [_header(objective, result, changes=changes)]
        columns += [_columns(cell, objective, result, bases=bases if changes else None, notes=notes) for cell in shown]
        table = [row + more for row, more in zip(table, columns, strict=True)]
    said = [_legend(result, found, bases, changes=changes), *_unmatched(result, found)]
    if len(shown) < len(found):
        said.append(f"{len(found) - len(shown)} more points are in the CSV file.")
    behind = ((), *(tuple(trial.number for trial in cell.trials) for cell in shown))
    return [Grid(table, max(1, len(axes)), frozenset(bold), behind), *notes.block(), said]


def _at_the_end(result: SweepResult) -> SweepResult:
    """Return a population without its earlier generations, which its members' schedules hold; else `result`."""
    if not any(trial.before for trial in result.trials):
        return result
    return replace(result, trials=tuple(trial for trial in result.trials if trial.state != "stopped"))


def _schedules(result: SweepResult) -> list[Block]:
    """Return what the members of a population trained with, generation by generation: the best one first."""
    if not any(trial.before for trial in result.trials):
        return []
    objective = result.objectives[0]
    ended = [(trial, value) for trial in result.trials if (value := result_of(trial, objective)) is not None]
    sign = -1 if objective.direction == "max" else 1
    rows = [["Trial", *(axis_title(axis.name) for axis in result.axes), with_unit(objective)]]
    for trial, value in sorted(ended, key=lambda pair: (sign * pair[1], pair[0].number)):
        lineage = (*trial.before, trial.point)
        values = [" > ".join(show_value(point[axis.name]) for point in lineage) for axis in result.axes]
        rows.append([str(trial.number), *values, show(value, objective.unit)])
    said = "What each member trained with, from the first generation to the last; a break is a copy of a better one."
    return [Heading("Schedules", 3), Grid(rows, left=1 + len(result.axes)), [said]]


def _best_first(found: Sequence[Cell], objective: Objective) -> list[Cell]:
    order = ranked(found, objective)
    known = set(map(id, order))
    return order + [cell for cell in found if id(cell) not in known]


def _title(name: str) -> str:
    return one_line(axis_title(name)) or DASH


def _header(objective: Objective, result: SweepResult, *, changes: bool) -> list[str]:
    header = [with_unit(objective), "n"]
    if changes:
        header.append(f"change ({points(objective.unit)})" if objective.unit else "change")
    if any(anchor.objective == objective.title for anchor in result.anchors):
        header.append("published")
    return [one_line(each) for each in header]


def _columns(
    cell: Cell, objective: Objective, result: SweepResult, *, bases: Baselines | None, notes: _Notes
) -> list[str]:
    """Return what stands under `_header` for a cell; without `bases`, nothing of changes."""
    over = summary(cell.values(objective))
    why = reasons(cell.trials, objective) if cell.trials else "no trial has this point"
    said = state(cell.trials) if cell.trials else "not tried"
    if over is not None:
        said = spread(over.mean, over.std, objective.unit)
    columns = [said + notes.mark(why), str(over.n if over else 0)]
    if bases is not None:
        columns.append(_change(cell, objective, bases))
    if any(anchor.objective == objective.title for anchor in result.anchors):
        mine = anchors_of(cell, objective, result.anchors)
        marked = [show_published(each.value, objective.unit) + notes.mark(_source(each.source)) for each in mine]
        columns.append("; ".join(marked) or DASH)
    return columns


def _source(source: str) -> str:
    return f"published: {one_line(source)}; shown beside ours, never ranked with it"


def _change(cell: Cell, objective: Objective, bases: Baselines) -> str:
    other = bases.of(cell)
    if other is None:
        return "baseline" if bases.has(cell) else DASH
    gap = difference(cell, other, objective)
    return DASH if gap is None else spread(gap.mean, gap.half, objective.unit, sign=True)


def _legend(result: SweepResult, found: Sequence[Cell], bases: Baselines, *, changes: bool) -> str:
    most = max((len(cell.values(each)) for cell in found for each in result.objectives), default=0)
    said = [
        "Mean and sample standard deviation over n runs." if most > 1 else "One run a point: its spread is unknown."
    ]
    if changes:
        chosen, rest = compared(varied(result))
        first = " or ".join(dict.fromkeys(_named(cell, chosen) for cell in found if bases.has(cell)))
        like = f" at the same {' and '.join(_title(axis.name) for axis in rest)}" if rest else ""
        half = ", paired by seed, with the half width of its 95 % interval (Student's t)" if most > 1 else ""
        said.append(f"Change: from `{first}`{like}{half}.")
    if shared := fixed(result):
        said.append("All trials: " + ", ".join(f"{_title(k)} = {one_line(v)}" for k, v in shared.items()) + ".")
    return " ".join(said)


def _named(cell: Cell, axes: Sequence[Axis]) -> str:
    """Return the labels of a baseline on the axes that tell it apart."""
    return " and ".join(one_line(cell.labels[axis.name]) for axis in axes if axis.name in cell.labels)


def _unmatched(result: SweepResult, found: Sequence[Cell]) -> list[str]:
    """Return the published values that no cell has a place for, each source once."""
    by_source: dict[str, list[str]] = {}
    for objective in result.objectives:
        used = {id(anchor) for cell in found for anchor in anchors_of(cell, objective, result.anchors)}
        for anchor in result.anchors:
            if anchor.objective == objective.title and id(anchor) not in used:
                labels = ", ".join(f"{axis_title(name)} {label}" for name, label in anchor.labels.items())
                by_source.setdefault(anchor.source, []).append(
                    f"{labels}: {show_published(anchor.value, objective.unit)}"
                )
    return [one_line(f"Published, no such point here ({key}): {'; '.join(said)}.") for key, said in by_source.items()]


def _effects(result: SweepResult, objective: Objective) -> list[Block]:
    """Return the marginal means of a grid of two axes or more."""
    effects = main_effects(result, objective) if result.search == GRID else {}
    if not any(effect.n for each in effects.values() for effect in each):
        return []
    rows = [["axis", "value", one_line(with_unit(objective)), "cells"]]
    for name, each in effects.items():
        for effect in each:
            said = DASH if effect.mean is None else spread(effect.mean, effect.std, objective.unit)
            cells_of = str(effect.n) if effect.n == effect.of else f"{effect.n} of {effect.of}"
            rows.append([_title(name), one_line(effect.label), said, cells_of])
    short = any(effect.n < effect.of for each in effects.values() for effect in each)
    said = "Mean and sample standard deviation of the cells of all other axes."
    if short:
        said += " Where cells are missing, values of an axis are averaged over different cells: read them with care."
    return [Heading(f"Main effects on {one_line(objective.title)}", 3), Grid(rows, 2), [said]]


def _front(result: SweepResult) -> list[Block]:
    """Return the points that no other one beats in all objectives."""
    if len(result.objectives) != 2:
        return []
    found, axes = front(cells(result), result.objectives), varied(result)
    if not found:
        return []
    rows = [[*(_title(axis.name) for axis in axes), *(one_line(with_unit(each)) for each in result.objectives)]]
    for cell in _best_first(found, result.objectives[0]):
        over = [summary(cell.values(each)) for each in result.objectives]
        numbers = [spread(s.mean, s.std, o.unit) for s, o in zip(over, result.objectives, strict=True) if s]
        rows.append([*(one_line(cell.labels.get(axis.name, DASH)) for axis in axes), *numbers])
    said = "No other point is at least as good in both and better in one. Means are compared: spreads may overlap."
    return [Heading("Pareto front", 3), Grid(rows, len(axes)), [said]]


def _importance(result: SweepResult, objective: Objective) -> list[Block]:
    heading = Heading(f"Importance for {one_line(objective.title)}", 3)
    found = importance(result, objective)
    if isinstance(found, str):
        return [heading, [f"Not computed: {found}."]]
    rows = [["axis", "share of the variance (%)"]]
    rows += [[_title(each.axis), spread(100 * each.mean, 100 * each.std, "%")] for each in found]
    said = (
        f"fANOVA over {found[0].n} points whose trials ended; the spread is the estimate's own, over {FORESTS} forests."
    )
    if names := left_out(result, found):
        said += (
            f" Left out, since those trials do not all have it, or all at one value: {', '.join(map(_title, names))}."
        )
    return [heading, Grid(rows, 1), [said]]
