"""What a search found: its trials as parallel coordinates, the best so far, and how much each axis matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.figure.style import (
    COLORS,
    COLUMN,
    FAINT,
    GRAY,
    MAX_SIZE,
    PAGE,
    Picture,
    canvas,
    letter,
    look,
    tick,
)
from orchestration.sweep.cells import dimensions, label_of, labels, result_of
from orchestration.sweep.compare import best_so_far
from orchestration.sweep.importance import Importance, importance
from orchestration.sweep.result import Axis, Objective, SweepResult, Trial
from orchestration.sweep.words import axis_title, number, show, show_value, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP = "viridis_r"  # even steps of lightness, for color-blind readers and gray print; dark is good, and seen on white
TICKS = 5
APART = 0.012  # of the axis's height: trials with one label are spread by as much to either side


@dataclass(frozen=True, slots=True)
class _Ruler:
    """One vertical axis of parallel coordinates: its height, 0 to 1, by trial number; its ticks."""

    title: str
    at: dict[int, float]
    ticks: list[tuple[float, str]]


def parallel(result: SweepResult, objective: Objective) -> Picture:
    """Return a line for each trial across all axes, colored by the objective; those without a value gray and dashed."""
    import matplotlib

    values = _values(result, objective)
    axes = [axis for axis in dimensions(result) if len({label_of(trial, axis) for trial in result.trials}) > 1]
    rulers = [_ruler(result, axis) for axis in axes]
    rulers.append(_scaled(with_unit(objective), values, log=False))
    low, high = min(values.values()), max(values.values())
    top = (max if objective.direction == "max" else min)(values, key=lambda n: values[n])
    order = sorted(result.trials, key=lambda trial: (trial.number in values, _rank(values, trial, objective)))
    with look():
        figure = canvas(PAGE, 2.7)
        panel = figure.subplots()
        colors = matplotlib.colormaps[MAP]
        for trial in order:
            share = (values[trial.number] - low) / (high - low or 1.0) if trial.number in values else None
            color = GRAY if share is None else colors(share if objective.direction == "max" else 1 - share)
            _trial(panel, rulers, trial, color=color, known=share is not None, best=trial.number == top)
        _rulers(panel, rulers)
        shades = [[i / 255] for i in range(256)]
        strip = (len(rulers) - 1, len(rulers) - 0.975, 0.0, 1.0)
        panel.imshow(
            shades if objective.direction == "min" else shades[::-1], colors, extent=strip, aspect="auto", zorder=3
        )
        panel.set_xlim(-0.25, len(rulers) - 0.75)
    return Picture("parallel", result.title, _parallel_caption(result, objective, values, top), figure)


def _values(result: SweepResult, objective: Objective) -> dict[int, float]:
    known = ((trial.number, result_of(trial, objective)) for trial in result.trials)
    return {n: value for n, value in known if value is not None and abs(value) < MAX_SIZE}


def _rank(values: dict[int, float], trial: Trial, objective: Objective) -> float:
    """Good trials are drawn last, on top."""
    value = values.get(trial.number, 0.0)
    return value if objective.direction == "max" else -value


def _ruler(result: SweepResult, axis: Axis) -> _Ruler:
    numbers = {t.number: n for t in result.trials if (n := number(t.point.get(axis.name))) is not None}
    plain = axis.scale != "category" and len(set(numbers.values())) > 1 and max(map(abs, numbers.values())) < MAX_SIZE
    if plain:
        return _scaled(axis_title(axis.name), numbers, log=axis.scale == "log" and min(numbers.values()) > 0)
    names = labels(result, axis)
    heights = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
    groups: dict[str, list[int]] = {}
    for trial in sorted(result.trials, key=lambda trial: trial.number):
        if (label := label_of(trial, axis)) is not None:
            groups.setdefault(label, []).append(trial.number)
    at = {n: heights[name] + _spread(i, len(group)) for name, group in groups.items() for i, n in enumerate(group)}
    return _Ruler(axis_title(axis.name), at, [(heights[name], tick(name)) for name in names])


def _spread(i: int, n: int) -> float:
    return 0.0 if n < 2 else APART * min(n, 8) * (i / (n - 1) - 0.5)


def _scaled(title: str, values: dict[int, float], *, log: bool) -> _Ruler:
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = min(values.values()), max(values.values())
    if low == high:
        return _Ruler(title, dict.fromkeys(values, 0.5), [(0.5, show_value(low))])

    def height(value: float) -> float:
        if log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return (value - low) / (high - low)

    locator = LogLocator(subs=(1.0, 2.0, 5.0)) if log else MaxNLocator(TICKS)
    ticks = [float(value) for value in locator.tick_values(low, high) if low <= value <= high]
    return _Ruler(title, {n: height(v) for n, v in values.items()}, [(height(v), f"{v:.4g}") for v in ticks])


def _trial(
    panel: Axes, rulers: Sequence[_Ruler], trial: Trial, *, color: str | tuple[float, ...], known: bool, best: bool
) -> None:
    """Draw one line; it has a gap at an axis that does not apply."""
    heights = [ruler.at.get(trial.number, math.nan) for ruler in rulers]
    panel.plot(
        range(len(rulers)),
        heights,
        color=color,
        linewidth=0.9 if known else 0.5,
        alpha=0.85 if known else 0.5,
        linestyle="-" if known else (0, (3, 2)),
        zorder=2 if known else 1,
    )
    if best:
        panel.plot(range(len(rulers)), heights, color="#bb5566", linewidth=1.8, marker="o", markersize=3.5, zorder=4)


def _rulers(panel: Axes, rulers: Sequence[_Ruler]) -> None:
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for i, ruler in enumerate(rulers):
        panel.axvline(i, color="black", linewidth=0.7, zorder=3)
        last = i == len(rulers) - 1
        for at, label in ruler.ticks:
            panel.plot([i - 0.012, i + 0.012], [at, at], color="black", linewidth=0.7, zorder=3)
            panel.annotate(
                label,
                (i, at),
                (7 if last else -4, 0),
                textcoords="offset points",
                fontsize=6,
                va="center",
                ha="left" if last else "right",
                bbox=None if last else box,
                zorder=5,
            )
    panel.set_xticks(range(len(rulers)), [tick(ruler.title) for ruler in rulers])
    panel.tick_params(axis="x", length=0)
    panel.set_yticks([])
    panel.grid(visible=False)
    panel.set_xlim(-0.25, len(rulers) - 0.75)
    panel.set_ylim(-0.03, 1.03)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)


def _parallel_caption(result: SweepResult, objective: Objective, values: dict[int, float], top: int) -> str:
    best = next(trial for trial in result.trials if trial.number == top)
    point = ", ".join(
        f"{axis_title(axis.name)} {label}" for axis in dimensions(result) if (label := label_of(best, axis)) is not None
    )
    without = len(result.trials) - len(values)
    gray = (
        f" Dashed gray: {without} trials without a value (stopped, failed, diverged or not ended)." if without else ""
    )
    return (
        f"Trials of the search, one line each, colored by {objective.title} (darker is better); thick and red: the "
        f"best, trial {top} with {show(values[top], objective.unit)} {objective.unit} at {point}.{gray}"
    )


def progress(result: SweepResult, objective: Objective) -> Picture:
    """Return the best value so far over trials, and how much each axis matters where enough trials say so."""
    shares = importance(result, objective)
    known = [each for each in best_so_far(result, objective) if abs(each[1]) < MAX_SIZE]
    reached = {trial.number for trial, _, _ in known}
    lost = [trial.number for trial in result.trials if trial.number not in reached]
    with look():
        figure = canvas(COLUMN if isinstance(shares, str) else PAGE, 2.2)
        panels = [p for row in figure.subplots(1, 1 if isinstance(shares, str) else 2, squeeze=False) for p in row]
        _best_so_far(panels[0], known, lost, objective)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        if not isinstance(shares, str):
            letter(panels[0], 0, "best so far")
            letter(panels[1], 1, "importance of the axes")
            _importance(panels[1], shares)
    return Picture("progress", result.title, _progress_caption(objective, known, lost, shares), figure)


def _best_so_far(
    panel: Axes, known: Sequence[tuple[Trial, float, float]], lost: Sequence[int], objective: Objective
) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [trial.number for trial, _, _ in known]
    panel.plot(numbers, [value for _, value, _ in known], "o", color=COLORS[3], markersize=2.5, label="a trial")
    panel.step(numbers, [until for _, _, until in known], where="post", color=COLORS[0], label="best so far")
    if lost:
        panel.plot(
            lost,
            [0.0] * len(lost),
            "x",
            color=GRAY,
            markersize=3.5,
            clip_on=False,
            transform=panel.get_xaxis_transform(),
            label="no value",
        )
    panel.set_xlabel("trial")
    panel.set_ylabel(with_unit(objective))
    panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def _importance(panel: Axes, shares: Sequence[Importance]) -> None:
    names = [tick(axis_title(each.axis)) for each in shares]
    panel.barh(
        range(len(shares)),
        [100 * each.mean for each in shares],
        0.6,
        color=COLORS[0],
        xerr=[100 * each.std for each in shares],
        error_kw={"elinewidth": 0.8, "capsize": 1.8},
    )
    for i, each in enumerate(shares):
        panel.annotate(
            f"{100 * each.mean:.0f}",
            (100 * (each.mean + each.std), i),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6,
        )
    panel.set_yticks(range(len(shares)), names)
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.grid(axis="x", color=FAINT)
    panel.tick_params(axis="y", length=0)
    panel.set_xlim(0, 105)
    panel.set_xlabel("share of the variance (%)")


def _progress_caption(
    objective: Objective,
    known: Sequence[tuple[Trial, float, float]],
    lost: Sequence[int],
    shares: list[Importance] | str,
) -> str:
    said = f"{objective.title} of each trial and the best so far: {show(known[-1][2], objective.unit)} {objective.unit}"
    said += (
        f" after {len(known)} trials with a value; crosses: {len(lost)} without."
        if lost
        else f" after {len(known)} trials."
    )
    if isinstance(shares, str):
        return f"{said} No importance of axes: {shares}."
    listed = ", ".join(f"{axis_title(each.axis)} {100 * each.mean:.0f} %" for each in shares)
    return f"{said} (b) Share of the variance by fANOVA over {shares[0].n} points; whiskers: over forests. {listed}."
