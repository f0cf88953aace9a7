"""How a sweep searches, stops early and ends: the options of each kind, checked by type as params are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field

from jobs.contract import FROZEN
from orchestration import check
from orchestration.document import Place, Tree, mapping, show
from orchestration.errors import SpecError, did_you_mean
from orchestration.sweep.result import Direction


class Goal(BaseModel):
    """One number that trials are compared by."""

    model_config = FROZEN

    stage: str
    metric: str
    direction: Direction = "max"
    unit: str = "%"


class Guard(BaseModel):
    """A number that tells a collapse, whose loss is finite: a trial that ends with no more than `floor` diverged."""

    model_config = FROZEN

    stage: str
    metric: str  # what the stage ends with, or the last value of one of its curves
    floor: float


class Budget(BaseModel):
    """When a sweep ends, whatever is left to try."""

    model_config = FROZEN

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)  # of all attempts together


class Grid(BaseModel):
    """Every point, each with every seed."""

    model_config = FROZEN

    kind: Literal["grid"] = "grid"


class Random(BaseModel):
    """Points by chance: the n-th depends on the seed and n alone."""

    model_config = FROZEN

    kind: Literal["random"]
    seed: int = Field(default=0, ge=0)


class Optuna(BaseModel):
    """Points by Optuna's tree of Parzen estimators."""

    model_config = FROZEN

    kind: Literal["optuna"]
    seed: int = Field(default=0, ge=0)
    startup: int = Field(default=10, ge=1)  # trials by chance before it models: optuna.samplers.TPESampler's default


class NoScheduler(BaseModel):
    """Every trial runs to its end."""

    model_config = FROZEN

    kind: Literal["none"] = "none"


class Watching(BaseModel):
    """What is looked at while a trial runs: a number that a stage records at the end of epochs."""

    model_config = FROZEN

    stage: str = "pretrain"
    metric: str = "knn_top1"  # every `knn_every` epochs
    direction: Direction = "max"


class Asha(Watching):
    """Asynchronous successive halving: at each rung, only the best 1/reduction of those that came there go on.

    Source: Li et al. 2020, arXiv:1810.05934, algorithm 2; ray.tune.schedulers.AsyncHyperBandScheduler.
    """

    kind: Literal["asha"]
    grace: int = Field(default=1, ge=1)  # epochs that every trial gets: Ray's default
    reduction: float = Field(default=4, gt=1)  # Ray's default, and the paper's


class Median(Watching):
    """A trial stops when its best is below the median of the others' running means.

    Source: Golovin et al. 2017, Google Vizier, section 3.2.2; ray.tune.schedulers.MedianStoppingRule.
    """

    kind: Literal["median"]
    grace: int = Field(default=1, ge=0)  # epochs; Ray's default is 60 s, and our unit is an epoch
    min_samples: int = Field(default=3, ge=1)  # trials to take a median over: Ray's default


class Pbt(Watching):
    """Population-based training: after every `interval` epochs the worst go on from the best, with values moved.

    Source: Jaderberg et al. 2017, arXiv:1711.09846; ray.tune.schedulers.PopulationBasedTraining, with its defaults.
    """

    kind: Literal["pbt"]
    population: int = Field(default=8, ge=2, le=1000)
    interval: int = Field(ge=1)  # epochs of a generation
    quantile: float = Field(default=0.25, gt=0, le=0.5)  # the share that is replaced, and the share it is replaced by
    resample: float = Field(default=0.25, ge=0, le=1)  # how often a value is drawn anew
    factors: tuple[float, float] = (1.2, 0.8)  # else one of these multiplies it; a value of a list moves by one place


Search: TypeAlias = Grid | Random | Optuna
Scheduler: TypeAlias = NoScheduler | Asha | Median | Pbt

_SEARCHES: Mapping[str, type[Grid] | type[Random] | type[Optuna]] = {"grid": Grid, "random": Random, "optuna": Optuna}
_SCHEDULERS: Mapping[str, type[NoScheduler] | type[Asha] | type[Median] | type[Pbt]] = {
    "none": NoScheduler,
    "asha": Asha,
    "median": Median,
    "pbt": Pbt,
}


def search(raw: Tree, place: Place) -> Search:
    """Return how points are chosen. Raises: SpecError."""
    given = _given(raw, place)
    return check.check(_kind(given, _SEARCHES, "grid", place), given, where=_under(place), noun="option")


def scheduler(raw: Tree, place: Place) -> Scheduler:
    """Return what stops trials early. Raises: SpecError."""
    given = _given(raw, place)
    return check.check(_kind(given, _SCHEDULERS, "none", place), given, where=_under(place), noun="option")


def budget(raw: Tree, chosen: Search, stops: Scheduler, place: Place) -> Budget:
    """Return when the sweep ends. Raises: SpecError also for a search without an end."""
    found = check.check(Budget, mapping(raw, place), where=_under(place), noun="option")
    if isinstance(stops, Pbt):
        if found.trials is not None:
            hint = "`population` members have a trial in each generation; `hours` may end it early"
            raise SpecError("a population has no other number of trials", place=str(place.at("trials")), hint=hint)
    elif chosen.kind != "grid" and found.trials is None:
        hint = "`budget: {trials: 20}`"
        raise SpecError(f"a search of kind {chosen.kind} has no end of its own", place=str(place), hint=hint)
    return found


def goals(raw: Tree, place: Place) -> dict[str, Goal]:
    """Return the objectives by title. Raises: SpecError."""
    found = _titled(Goal, raw, place)
    if not found:
        hint = "such as `linear top-1: {stage: linear, metric: top1}`"
        raise SpecError("there is no objective, so trials cannot be compared", place=str(place), hint=hint)
    return found


def guards(raw: Tree, place: Place) -> dict[str, Guard]:
    """Return the guards by title. Raises: SpecError."""
    return _titled(Guard, raw, place)


def _titled(kind: type[check.T], raw: Tree, place: Place) -> dict[str, check.T]:
    return {
        title: check.check(kind, mapping(given, place.at(title)), where=_under(place.at(title)), noun="option")
        for title, given in mapping(raw, place).items()
    }


def _given(raw: Tree, place: Place) -> dict[str, Tree]:
    return {"kind": raw} if isinstance(raw, str) else mapping(raw, place)


def _kind(given: Mapping[str, Tree], kinds: Mapping[str, type[check.T]], default: str, place: Place) -> type[check.T]:
    kind = given.get("kind", default)
    if not isinstance(kind, str) or kind not in kinds:
        hint = did_you_mean(str(kind), kinds)
        raise SpecError(f"nothing here is called {show(kind)}", place=str(place.at("kind")), hint=hint)
    return kinds[kind]


def _under(place: Place) -> check.Where:
    return lambda path: place.at(*path)
