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

and, where all that it records over its steps is known before,

    curves(params)  the names of these numbers

Params decide the numbers and are fingerprinted. Resources say where and how a stage runs and are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

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


class Workers(BaseModel):
    """So many workers as there is room for: an attempt begins with one number, the next may begin with another."""

    model_config = FROZEN

    min: int = Field(ge=1, le=4096)
    max: int = Field(ge=1, le=4096)

    @model_validator(mode="after")
    def _in_order(self) -> Workers:
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is more than max, {self.max}")
        return self


def _form(value: Any) -> str:
    return "range" if isinstance(value, dict | Workers) else "number"


class Retention(BaseModel):
    """Which checkpoints of a running stage are kept; once it is done they go."""

    model_config = FROZEN

    keep_last: int = Field(default=2, ge=1, le=1000)  # the newest, and one before it in case the newest is damaged
    keep_best: int = Field(default=0, ge=0, le=1000)  # beside them, by the number that the stage's kind shows first


class Resources(BaseModel):
    """Where and how a stage runs; none of it is fingerprinted.

    The global batch is the recipe's, whatever the workers: they share it. So their number changes a result by the order
    of its sums alone, unless batch norm sees a worker's share only: `sync_bn` makes it see the whole batch.
    """

    model_config = FROZEN

    # Processes of data-parallel training; one alone runs in a warm process.
    workers: Annotated[
        Annotated[int, Field(ge=1, le=4096), Tag("number")] | Annotated[Workers, Tag("range")], Discriminator(_form)
    ] = 1
    placement: Literal["pack", "spread", "strict_pack", "strict_spread"] = "pack"  # of several workers, on nodes
    cpus_per_worker: float = Field(default=1, gt=0)  # Ray's logical CPUs; also torch's threads, at least 1
    gpus_per_worker: float | None = Field(default=None, ge=0)  # None: 1 where the cluster has a GPU, else 0
    loader_workers: int = Field(default=0, ge=0)  # decoding processes a worker, for data sets that live in files
    compile: Compile = "auto"  # networks of a pre-training, auto: on CUDA; off: a CPU colors views step by step, too
    checkpoint_every_s: float = Field(default=30, ge=0)  # at the end of an epoch, when the last one is this old
    checkpoint_every_steps: int = Field(default=0, ge=0)  # also inside an epoch, after every so many steps; 0: never
    checkpoints: Retention = Retention()
    max_failures: int = Field(
        default=2, ge=0
    )  # crashed workers or nodes that a stage survives, each time from its checkpoint; nodes taken away do not count

    # Seconds without a sign of life of its process (`jobs.alive`: 20 signs) after which a stage is taken for frozen, is
    # ended, and begins again as after a crash; 0: never.
    hang_after_s: float = Field(default=60, ge=0)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpus_per_worker is not None and self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError("gpus_per_worker: expected a whole number, or a share of one GPU")
        return self

    @property
    def fewest(self) -> int:
        """How many workers an attempt has at least."""
        return self.workers if isinstance(self.workers, int) else self.workers.min

    @property
    def most(self) -> int:
        """How many workers an attempt has at most."""
        return self.workers if isinstance(self.workers, int) else self.workers.max

    def of(self, workers: int) -> Resources:
        """Return these resources with a number of workers instead of a range."""
        return self.model_copy(update={"workers": workers})


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
    begins: int = (
        0  # epochs that the pre-training which this one goes on from has had: its state is inputs["checkpoint"]
    )
    data_root: str  # for `params.dataset`: the user's folder or address, or where generated data may be cached
    keeper: dict[str, str] = {}  # what the node must know to keep files elsewhere; empty: all nodes see one folder
    trial: Point | None = None  # this job tries a point of its stage's grid; None: it is the stage itself
    trials: int = 0  # that were run before the stage itself
    at_once: int = 1  # trials side by side: as many as the driver gave it room for
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
