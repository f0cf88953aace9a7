"""What a stage kind is, and what travels to its workers.

A file of this package defines

    METRICS  the numbers it ends with; the first is the one to show
    NEEDS    the kinds it must come after: a linear evaluation needs a `pretrain`
    params_type(raw)  the pydantic type that its `params` are checked against; keys it does not know are refused
    train_loop(config)  what each Ray Train worker runs; `config` is a `Job` as JSON

and, where a stage tries a grid of settings before it trains,

    points(params)  the points of the grid; none where there is nothing to choose (see `jobs.grid`)

and, where its params decide which numbers it ends with,

    metrics(params)  those of them that it does end with

Params decide the numbers and are fingerprinted. Resources say where and how a stage runs and are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from leoclr.compiling import Compile

FORBID = ConfigDict(extra="forbid")
FROZEN = ConfigDict(extra="forbid", frozen=True)
NO_DATA = ""  # `dataset` of a stage that reads none


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a stage ends with."""

    name: str  # as MLflow shows it: letters, digits, and _ - . space : /
    unit: str  # "%" for accuracies and average precision (0..100), "" for none
    better: Literal["higher", "lower"]
    title: str  # for a table's head


class Params(Protocol):
    """What the params of every stage kind have; each kind adds its own."""

    @property
    def dataset(self) -> str: ...  # a key of leoclr.data.DATASETS, or NO_DATA
    @property
    def seed(self) -> int: ...


class Resources(BaseModel):
    """Where and how a stage runs; nothing here changes a number by more than the rounding of a worker count."""

    model_config = FROZEN

    workers: int = Field(default=1, ge=1, le=4096)  # processes of data-parallel training; 1 runs in a warm process
    cpus_per_worker: float = Field(default=1, gt=0)  # Ray's logical CPUs; also torch's threads, at least 1
    gpus_per_worker: float | None = Field(default=None, ge=0)  # None: 1 where the cluster has a GPU, else 0
    loader_workers: int = Field(default=0, ge=0)  # decoding processes a worker, for data sets that live in files
    compile: Compile = "auto"  # networks of a pre-training, auto: on CUDA; off: a CPU colors views step by step, too
    checkpoint_every_s: float = Field(default=30, ge=0)  # at the end of an epoch, when the last one is this old
    checkpoint_every_steps: int = Field(default=0, ge=0)  # also inside an epoch, after every so many steps; 0: never
    max_failures: int = Field(
        default=2, ge=0
    )  # crashed workers or nodes that a stage survives, each time from its checkpoint


class Point(BaseModel):
    """One point of a stage's grid of settings, see `jobs.grid`."""

    model_config = FROZEN

    group: str = ""  # points of one group compete; "" where all do
    settings: dict[str, float]  # what this point sets, by name

    @property
    def name(self) -> str:
        """Return what the point is called; also the name of its folder.

        >>> Point(group="labels_1", settings={"lr": 0.1, "epochs": 30}).name
        'labels_1 lr=0.1 epochs=30'
        """
        return " ".join([*filter(None, [self.group]), *(f"{key}={value:g}" for key, value in self.settings.items())])


class Job(BaseModel):
    """What travels to each worker of a stage, as JSON."""

    model_config = FROZEN

    stage: str  # its name in the pipeline
    kind: str  # a key of STAGES
    fingerprint: str
    params: dict[str, Any]  # as params_type(raw) dumps them
    resources: Resources
    folder: str  # of the stage: journal, checkpoints, result; on a file system that every worker sees
    inputs: dict[str, str] = {}  # file of the upstream backbone, by the upstream stage's kind
    data_root: str  # for `params.dataset`: the user's folder, or where generated data may be cached
    trial: Point | None = None  # this job tries a point of its stage's grid; None: it is the stage itself
    trials: int = 0  # that were run before the stage itself
    chosen: dict[str, Point] = {}  # the best point of each group, after the trials


class StageModule(Protocol):
    """What each file of this package defines."""

    METRICS: tuple[Metric, ...]
    NEEDS: tuple[str, ...]

    def params_type(self, raw: Mapping[str, Any]) -> type[Params]:
        """Return the pydantic dataclass or model that checks `raw`, the params as written in the file."""
        ...

    def train_loop(self, config: Mapping[str, Any]) -> None:
        """Run the stage in this worker, from its last checkpoint if there is one."""
        ...
