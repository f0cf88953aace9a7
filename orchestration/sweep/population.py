"""Population-based training between two generations: who goes on from whom, and with which values. Ray Tune's own rule.

Members train side by side for some epochs. Then each of the worst goes on from the weights of one of the best, with
that one's values moved a little; all others go on as they are. What a member is, is its lineage: the values of each
generation, its own or inherited.

Source: Jaderberg et al. 2017, arXiv:1711.09846, section 4.1.1, truncation selection, perturb or resample; synchronous,
as in its appendix A.1; ray.tune.schedulers.PopulationBasedTraining decides, from a seed for each decision.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestration.document import Tree
from orchestration.sweep.options import Pbt
from orchestration.sweep.space import LISTS, Axis, Lineage, Point, Space


@dataclass(slots=True, eq=False)
class Member:
    """A member at the end of a generation, as Ray's rule asks for one."""

    lineage: Lineage  # of all generations so far, this one last
    score: float | None  # what is watched; None: it failed or diverged, and left nothing to go on from
    experiment_tag: str = ""
    config: dict[str, Tree] = field(init=False)

    def __post_init__(self) -> None:
        self.config = dict(self.lineage[-1])

    def is_finished(self) -> bool:
        """Return that it goes on."""
        return False


def next_generation(members: Sequence[Member], space: Space, options: Pbt, *, seed: int) -> list[Lineage]:
    """Return the lineage of each member in the generation after this one; the same at every call."""
    rule = _rule(members, space, options)
    worst, best = rule._quantiles()
    donors = [member for member in best if member.score is not None]
    found: list[Lineage] = []
    for number, member in enumerate(members):
        if donors and member not in donors and (member in worst or member.score is None):
            with _chance(f"{seed}/{len(member.lineage)}/{number}"):
                donor = random.choice(donors)  # noqa: S311  # as Ray's rule does in `_checkpoint_or_exploit`
                values, _ = rule._get_new_config(member, donor)
            found.append((*donor.lineage, values))
        else:
            found.append((*member.lineage, member.lineage[-1]))
    return found


def _rule(members: Sequence[Member], space: Space, options: Pbt) -> Any:
    """Return Ray's rule, which knows the members and their scores."""
    from ray.tune.schedulers import PopulationBasedTraining
    from ray.tune.schedulers.pbt import _PBTTrialState

    rule = PopulationBasedTraining(
        time_attr="epoch",
        metric="value",
        mode=options.direction,
        perturbation_interval=options.interval,
        hyperparam_mutations={axis.name: _mutation(axis) for axis in space},
        quantile_fraction=options.quantile,
        resample_probability=options.resample,
        perturbation_factors=options.factors,
        custom_explore_fn=lambda values: _within(space, values),
        synch=True,
    )
    for member in members:
        state = rule._trial_state[member] = _PBTTrialState(member)
        state.last_score = -math.inf if member.score is None else rule._metric_op * member.score
    return rule


def _mutation(axis: Axis) -> list[Tree] | Callable[[], Tree]:
    """Return a list, whose neighbors are tried, or what draws a value anew."""
    if axis.kind in LISTS:
        return list(axis.values)
    return lambda: axis.draw(random.Random(random.random()))  # noqa: S311  # of `_chance`


def _within(space: Space, values: Mapping[str, Tree]) -> Point:
    """Return values within their ranges, which Ray's rule leaves: it multiplies by a factor and looks no further."""
    found = dict(values)
    for axis in space:
        value = found[axis.name]
        if axis.kind not in LISTS and isinstance(value, int | float):
            kept = min(max(float(value), axis.low), axis.high)
            found[axis.name] = round(kept) if axis.kind == "int" else axis.rounded(kept)
    return found


@contextmanager
def _chance(seed: str) -> Iterator[None]:
    """Let Ray's rule, which draws from the one generator that all share, draw from a seed of ours."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
