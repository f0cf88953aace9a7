"""What a sweep found, as plain values: its axes, what it optimizes, every trial, and what others published. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scale = Literal["category", "linear", "log"]
Direction = Literal["max", "min"]
State = Literal["done", "stopped", "failed", "diverged", "running", "waiting"]

SEED = "seed"  # a label of this name never splits cells: cells average over seeds
MEMBER = "member"  # nor does this: a place in a population tells trials apart, and decides no number


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that trials differ in. The first value of a `category` axis is the baseline of an ablation."""

    name: str  # key of `Trial.point` and `Trial.labels`
    values: tuple[object, ...] | None  # of a grid or a choice, in their order; None: a range
    scale: Scale


@dataclass(frozen=True, slots=True)
class Objective:
    """One number that a trial ends with."""

    title: str  # key of `Trial.values` and of `Anchor.objective`
    stage: str
    metric: str
    direction: Direction
    unit: str  # "%", "s", or "" for a bare number


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published value; of another data set and protocol than ours, so it is shown beside ours and never ranked."""

    labels: Mapping[str, str]  # label by axis; belongs to every cell that has all of them
    objective: str
    value: float | None  # None: it is published that training diverged
    source: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One point (of a grid: with one seed) and how it ended."""

    number: int  # in the order in which trials were made
    point: Mapping[str, object]  # value by axis; an axis that does not apply is absent
    labels: Mapping[str, str]  # label by axis, and by axis of the base's arms, such as `method`
    seed: int | None  # None: all seeds of the point, `values` are their means
    state: State
    reason: str  # why it has no result; "" where it is done
    run_id: str | None
    values: Mapping[str, float]  # by title of the objective
    history: tuple[tuple[int, float], ...]  # (step, value) of the first objective, as a scheduler saw it
    seconds: float
    before: tuple[Mapping[str, object], ...] = ()  # of a member of a population: its points in earlier generations


@dataclass(frozen=True, slots=True)
class SweepResult:
    """A sweep as far as it came."""

    name: str
    title: str
    axes: tuple[Axis, ...]
    objectives: tuple[Objective, ...]
    anchors: tuple[Anchor, ...]
    trials: tuple[Trial, ...]
    search: str  # "grid", "random", "optuna"
