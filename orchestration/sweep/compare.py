"""Cells compared: differences from a baseline, the best one, main effects, the Pareto front, the best so far. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from orchestration.sweep.cells import Cell, cells, labels, result_of, summary, varied
from orchestration.sweep.result import Axis, Objective, SweepResult, Trial

LEVEL = 0.95  # of the intervals; the customary one


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell less another: the mean over the seeds they share, or of their means where they share none."""

    mean: float
    half: float | None  # half width of the 95 % interval of the mean of the pairs (Student's t); None where n < 2
    n: int  # pairs; 0: means are compared, the seeds differ


@dataclass(frozen=True, slots=True)
class Effect:
    """What one label of an axis reached, averaged over the cells of all other axes."""

    label: str
    mean: float | None
    std: float | None  # sample standard deviation of the means of its cells
    n: int  # cells that have a number
    of: int  # cells


def difference(cell: Cell, other: Cell, objective: Objective) -> Difference | None:
    """Return `cell` less `other`; None where one of them has no number.

    Source of the interval: the paired t interval, mean +- t(0.975, n - 1) s / sqrt(n) of the differences.
    """
    mine, theirs = cell.by_seed(objective), other.by_seed(objective)
    pairs = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    found = summary(pairs) if all(map(math.isfinite, pairs)) else None
    if found is None:
        left, right = summary(cell.values(objective)), summary(other.values(objective))
        return None if left is None or right is None else Difference(left.mean - right.mean, None, 0)
    half = None if found.std is None else _quantile(found.n - 1) * found.std / math.sqrt(found.n)
    return Difference(found.mean, half, found.n)


def _quantile(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def better(value: float, other: float, objective: Objective) -> bool:
    """Return whether `value` is preferred to `other`."""
    return value > other if objective.direction == "max" else value < other


def ranked(found: Sequence[Cell], objective: Objective) -> list[Cell]:
    """Return the cells that have a number, the best mean first."""
    sign = -1 if objective.direction == "max" else 1
    means = [(each.mean, i) for i, cell in enumerate(found) if (each := summary(cell.values(objective)))]
    return [found[i] for _, i in sorted(means, key=lambda pair: (sign * pair[0], pair[1]))]


def best(found: Sequence[Cell], objective: Objective) -> Cell | None:
    """Return the cell that is clearly the best of several, or None.

    Clearly: the interval of its difference from the runner-up leaves out 0, over at least two shared seeds.
    Without shared seeds, the gap exceeds the larger of both standard deviations, each over at least two values.
    """
    order = ranked(found, objective)
    if len(order) < 2:
        return None
    gap = difference(order[0], order[1], objective)
    if gap is None or not better(gap.mean, 0.0, objective):  # of means over other seeds the pairs may say the opposite
        return None
    if gap.n:
        return order[0] if gap.half is not None and abs(gap.mean) > gap.half else None
    spreads = [each.std for cell in order[:2] if (each := summary(cell.values(objective))) and each.std is not None]
    return order[0] if len(spreads) == 2 and abs(gap.mean) > max(spreads) else None


def main_effects(result: SweepResult, objective: Objective) -> dict[str, list[Effect]]:
    """Return the marginal means of every label by axis; nothing where fewer than two axes vary."""
    axes, found = varied(result), cells(result)
    return {axis.name: _effects(axis, found, result, objective) for axis in axes} if len(axes) > 1 else {}


def _effects(axis: Axis, found: Sequence[Cell], result: SweepResult, objective: Objective) -> list[Effect]:
    effects = []
    by_label: dict[str, list[Cell]] = {}
    for cell in found:
        if axis.name in cell.labels:
            by_label.setdefault(cell.labels[axis.name], []).append(cell)
    for label in labels(result, axis):
        mine = by_label.get(label, [])
        means = [each.mean for cell in mine if (each := summary(cell.values(objective)))]
        over = summary(means)
        effects.append(Effect(label, over.mean if over else None, over.std if over else None, len(means), len(mine)))
    return effects


def front(found: Sequence[Cell], objectives: Sequence[Objective]) -> list[Cell]:
    """Return the Pareto front of two objectives: the cells that no other one matches in both and beats in one."""
    first, second = (_scores(found, objective) for objective in objectives)
    scores = [None if a is None or b is None else (a, b) for a, b in zip(first, second, strict=True)]
    best, top = set[tuple[float, float]](), -math.inf
    for score in sorted({each for each in scores if each is not None}, reverse=True):  # as good or better in the first
        if score[1] > top:
            best.add(score)
            top = score[1]
    return [cell for cell, score in zip(found, scores, strict=True) if score in best]


def _scores(found: Sequence[Cell], objective: Objective) -> list[float | None]:
    """Return the mean of each cell, more is better; None where it has no number."""
    sign = 1 if objective.direction == "max" else -1
    means = (summary(cell.values(objective)) for cell in found)
    return [None if each is None else sign * each.mean for each in means]


def best_so_far(result: SweepResult, objective: Objective) -> list[tuple[Trial, float, float]]:
    """Return trial, its value and the best value until then, of each trial that has one, by number."""
    done = sorted(result.trials, key=lambda trial: trial.number)
    known = [(trial, value) for trial in done if (value := result_of(trial, objective)) is not None]
    top = accumulate((value for _, value in known), max if objective.direction == "max" else min)
    return [(trial, value, until) for (trial, value), until in zip(known, top, strict=True)]
