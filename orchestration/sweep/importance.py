"""How much each axis of a search matters: the share of the objective's variance that fANOVA gives it. Deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from orchestration.sweep.cells import dimensions, label_of, reached, summary
from orchestration.sweep.result import Axis, Objective, SweepResult, Trial
from orchestration.sweep.words import number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

MIN_TRIALS = (
    16  # ours: on made-up sweeps of four axes, two of them idle, an idle one led at 8 trials, and never from 16 on
)
FORESTS, TREES = 4, 16  # optuna's 64 trees, as 4 forests: their spread shows what is noise of the estimate

Column: TypeAlias = tuple[float, ...] | tuple[str, ...]  # where each trial is on an axis


@dataclass(frozen=True, slots=True)
class Importance:
    """Share of the variance, 0 to 1; the shares of all axes add up to 1."""

    axis: str
    mean: float
    std: float  # over forests: noise of the estimate alone, not of the search
    n: int  # trials, those of one point once


def importance(result: SweepResult, objective: Objective) -> list[Importance] | str:
    """Return the importance of the axes, the largest first, or why there is none.

    Only trials that ran to their end count, those of one point once, and axes that all have and in which they differ.
    Source: Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance";
    optuna.importance.FanovaImportanceEvaluator.
    """
    known = reached(result.trials, objective)
    if len(known) < MIN_TRIALS:
        fact = f"{len(known)} trials have a value of their own"
        return f"{fact}; importance needs {MIN_TRIALS} to be more than noise"
    if len({value for _, value in known}) < 2:
        return "all trials reached the same value: there is no variance to share out"
    columns = {axis.name: found for axis in dimensions(result) if (found := _column(axis, [t for t, _ in known]))}
    if len(columns) < 2:
        return "fewer than two axes vary in all trials: there is nothing to share out"
    shares = _shares(tuple(columns.items()), tuple(value for _, value in known))
    over = [(axis, each) for axis, values in shares if (each := summary(values)) is not None]
    over.sort(key=lambda pair: (-pair[1].mean, pair[0]))
    return [Importance(axis, each.mean, each.std or 0.0, len(known)) for axis, each in over]


def left_out(result: SweepResult, found: Sequence[Importance]) -> list[str]:
    """Return the axes that vary and have no importance: conditional ones, and those of one value in what ended."""
    names = {each.axis for each in found}
    return [
        axis.name
        for axis in dimensions(result)
        if axis.name not in names and len({label_of(trial, axis) for trial in result.trials}) > 1
    ]


def _column(axis: Axis, trials: Sequence[Trial]) -> Column | None:
    """Return where trials are on an axis, on its own scale; None where they do not differ or one is not on it."""
    named = [label_of(trial, axis) for trial in trials]
    words = [label for label in named if label is not None]
    if len(words) < len(trials) or len(set(words)) < 2:
        return None
    numbers = [each for trial in trials if (each := number(trial.point.get(axis.name))) is not None]
    if len(numbers) < len(trials) or axis.scale == "category":
        return tuple(words)
    return tuple(math.log(each) for each in numbers) if axis.scale == "log" and min(numbers) > 0 else tuple(numbers)


@lru_cache(maxsize=8)
def _shares(columns: tuple[tuple[str, Column], ...], values: tuple[float, ...]) -> list[tuple[str, list[float]]]:
    """Return each axis's share in each forest. Kept, since page, terminal and figure ask for the same: seconds each."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    study = _study(dict(columns), values)
    forests = [
        get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=i)) for i in range(FORESTS)
    ]
    return [(name, [float(shares.get(name, 0.0)) for shares in forests]) for name, _ in columns]


def _study(columns: Mapping[str, Column], values: Sequence[float]) -> Study:
    """Return the trials as optuna keeps them. Its greeting on standard error is held back."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(level)
    spaces = {name: _distribution(column) for name, column in columns.items()}
    for i, value in enumerate(values):
        params = {name: column[i] for name, column in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=value))
    return study


def _distribution(column: Column) -> BaseDistribution:
    """Return what trials covered: fANOVA averages over it as if every place of it were equally likely."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [value for value in column if isinstance(value, float)]
    if numbers:
        return FloatDistribution(min(numbers), max(numbers))
    return CategoricalDistribution(sorted({value for value in column if isinstance(value, str)}))
