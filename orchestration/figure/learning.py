"""Learning curves: a line for each recipe, its mean over seeds, and a band of one sample standard deviation.

The legend is the page's: one for all panels, which are as wide as a column of print and stand side by side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.figure.style import COLORS, COLUMN, LINES, MAX_SIZE, Picture, canvas, look

BAND = 0.18  # opacity
BINS = 80  # points of a line: what lies between two is averaged

Points = Sequence[tuple[int, float]]  # step and value


@dataclass(frozen=True, slots=True)
class Curve:
    """One line."""

    label: str
    place: int  # in the legend: decides color and dashes
    steps: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]  # sample standard deviations; 0 where one run is left
    runs: int


def stroke(place: int) -> tuple[str, str]:
    """Return the color and the dashes of the line at a place of the legend."""
    return COLORS[place % len(COLORS)], LINES[place % len(LINES)]


def curve(label: str, place: int, runs: Sequence[Points]) -> Curve | None:
    """Return the curve of runs that differ in seeds alone; None where they have no number.

    Numbers that are not finite are left out.
    """
    known = [[(step, value) for step, value in run if math.isfinite(value) and abs(value) < MAX_SIZE] for run in runs]
    known = [run for run in known if run]
    if not known:
        return None
    width = max(1.0, max(step for run in known for step, _ in run) / BINS)
    binned = [_binned(run, width) for run in known]
    steps, means, stds = list[float](), list[float](), list[float]()
    for at in sorted({each for run in binned for each in run}):
        found = [run[at] for run in binned if at in run]
        steps.append(statistics.fmean(step for step, _ in found))
        means.append(statistics.fmean(value for _, value in found))
        stds.append(statistics.stdev(value for _, value in found) if len(found) > 1 else 0.0)
    return Curve(label, place, tuple(steps), tuple(means), tuple(stds), len(known))


def _binned(run: Points, width: float) -> Mapping[int, tuple[float, float]]:
    """Return the mean step and value of the points of each bin."""
    bins: dict[int, list[tuple[int, float]]] = {}
    for step, value in run:
        bins.setdefault(min(int(step / width), BINS - 1), []).append((step, value))
    return {
        at: (statistics.fmean(step for step, _ in each), statistics.fmean(value for _, value in each))
        for at, each in bins.items()
    }


def learning(curves: Sequence[Curve], *, name: str, title: str, y: str) -> Picture:
    """Return the lines of one number over the steps of training; the caption says where each begins and ends."""
    with look():
        figure = canvas(COLUMN, 2.1)
        panel = figure.subplots()
        for each in curves:
            color, dashes = stroke(each.place)
            dots = {"marker": "o", "markersize": 3.0} if len(each.steps) <= 12 else {}
            panel.plot(each.steps, each.means, dashes, color=color, zorder=3, **dots)  # type: ignore[arg-type]
            low = [mean - std for mean, std in zip(each.means, each.stds, strict=True)]
            high = [mean + std for mean, std in zip(each.means, each.stds, strict=True)]
            panel.fill_between(each.steps, low, high, color=color, alpha=BAND, linewidth=0)
        panel.set_xlabel("step")
        panel.set_ylabel(y)
        panel.margins(x=0.02, y=0.08)
    said = "; ".join(f"{each.label} from {each.means[0]:.3g} to {each.means[-1]:.3g}" for each in curves)
    return Picture(name, title, f"{title} over the steps: {said}.", figure)
