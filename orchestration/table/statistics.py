"""How sure a difference of two means is: Student's t over the seeds that both share, else Welch's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95  # of every interval; two-sided, not corrected for the number of comparisons of a table


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference of two means, with its confidence interval."""

    mean: float
    low: float
    high: float
    p: float  # two-sided, of no difference
    n: int  # pairs, or the runs of the smaller side
    paired: bool

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def gap(of: Mapping[str, float], minus: Mapping[str, float]) -> Gap | None:
    """Return the mean of `of` minus that of `minus`, values by seed; None where fewer than two a side tell a spread.

    Two seeds or more in common: Student's t on their differences, d = mean, s / sqrt(n), n - 1 degrees of freedom;
    seeds of one side alone are left out. Else Welch's t with the degrees of freedom of Welch and Satterthwaite.
    Source: Student, The probable error of a mean, Biometrika 6, 1908; Welch, Biometrika 34, 1947.
    """
    shared = [seed for seed in of if seed in minus]
    if len(shared) > 1:
        differences = [of[seed] - minus[seed] for seed in shared]
        error = statistics.stdev(differences) / math.sqrt(len(shared))
        return _gap(statistics.fmean(differences), error, len(shared) - 1, n=len(shared), paired=True)
    if min(len(of), len(minus)) < 2:
        return None
    first, second = (statistics.variance(side.values()) / len(side) for side in (of, minus))
    error = math.sqrt(first + second)
    freedom = (first + second) ** 2 / (first**2 / (len(of) - 1) + second**2 / (len(minus) - 1)) if error else 1.0
    mean = statistics.fmean(of.values()) - statistics.fmean(minus.values())
    return _gap(mean, error, freedom, n=min(len(of), len(minus)), paired=False)


def _gap(mean: float, error: float, freedom: float, *, n: int, paired: bool) -> Gap:
    if error == 0:  # all differences are the same number
        return Gap(mean, mean, mean, 0.0 if mean else 1.0, n, paired)
    from scipy import special  # here: the command line's other half needs no scipy

    reach = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(mean / error)))
    return Gap(mean, mean - reach, mean + reach, p, n, paired)
