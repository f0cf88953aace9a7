"""What a plan must know of this machine before it can be made: the data's digests, and what ran before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jobs import imported
from jobs.contract import NO_DATA
from leoclr import RESULTS_VERSION
from leoclr import data as datasets
from leoclr.data.contract import DataError
from orchestration import plan, preflight, shards
from orchestration.archives import ARCHIVES
from orchestration.errors import DataProblem, NotFound
from orchestration.plan import PastRun, Plan, PlannedStage, State
from orchestration.preflight import Note
from orchestration.schedule import Size
from orchestration.spec import PipelineSpec
from orchestration.storage import Home, address
from orchestration.tracking import Store

T = TypeVar("T")


def prepare(spec: PipelineSpec, home: Home, store: Store | None) -> Plan:
    """Return the plan of `spec`, given what `store` remembers; None is a store that does not exist yet.

    Raises: DataProblem when a data set is missing or broken; StoreError when the store cannot be read; NotFound when
        weights that another project trained were not imported.
    """
    known = digests(spec, home)
    wanted = plan.fingerprints(spec, digests=known, results_version=RESULTS_VERSION)
    return decide(spec, known, store.past_of(wanted, spec.name) if store else [])


def decide(spec: PipelineSpec, known: Mapping[str, str], past: Sequence[PastRun]) -> Plan:
    """Return the plan of `spec`, given the digests of its data sets and what ran before. Raises: NotFound."""
    made = plan.make(spec, digests=known, past=past, results_version=RESULTS_VERSION)
    _require_imports(made)
    return made


def look_over(spec: PipelineSpec, made: Plan, home: Home) -> list[Note]:
    """Return what an expert would warn of before `made`, the plan of `spec`, runs.

    Raises: SpecError for what cannot work or contradicts itself; DataProblem when a data set to train on is broken.
    """
    names = {stage.spec.params.dataset for stage in made.stages if _trains_here(stage)}
    sizes = {name: _images(name, spec, home) for name in names}
    notes = preflight.examine(spec, sizes) + preflight.disk(made, shutil.disk_usage(_existing(home.path)).free)
    preflight.refuse(notes, spec.source)
    return notes


def nodes_here() -> tuple[Size, ...]:
    """Return this machine as a node of the cluster that `submit` starts on it."""
    import torch  # a plan of a pre-training has imported it

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return (Size(float(cores), float(torch.cuda.device_count())),)


def _trains_here(stage: PlannedStage) -> bool:
    params = stage.spec.params
    if stage.kind != "pretrain" or stage.state is not State.TODO or preflight.is_imported(params):
        return False
    return bool(getattr(params, "epochs", 0))


def _images(name: str, spec: PipelineSpec, home: Home) -> int:
    """Return how many images a pre-training on data set `name` draws from. Raises: DataProblem when it is broken."""
    try:
        data = _ask(datasets.module(name).load, _root(name, spec, home))
    except DataError as error:  # its digest was told, but it does not hold together
        raise _problem({name: error}) from error
    return len(data.splits.get("unlabeled", data.splits["train"]))


def _existing(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _require_imports(made: Plan) -> None:
    """Refuse a plan that stands on weights which nobody brought here. Raises: NotFound."""
    for stage in made.stages:
        if stage.state is State.TODO and stage.spec.params_json.get("method") == imported.METHOD:
            settings = stage.spec.params_json["settings"]
            name, digest = settings["as_method"], settings["sha256"]
            fact = f"`{name}` with sha256 {digest[:12]}... is not imported here"
            hint = f"leoclr-ops import FILE --as {name}"
            raise NotFound(fact, place=f"stage {stage.name}", hint=hint)


def digests(spec: PipelineSpec, home: Home) -> dict[str, str]:
    """Return the digest of each data set that `spec` uses, by name.

    Raises: DataProblem that names every one that is missing or broken.
    """
    names = sorted({stage.params.dataset for arm in spec.arms for stage in arm.stages.values()} - {NO_DATA})
    found, problems = {NO_DATA: ""}, dict[str, DataError]()
    for name in names:
        try:
            found[name] = _ask(datasets.module(name).digest, _root(name, spec, home))
        except DataError as error:
            problems[name] = error
    if problems:
        raise _problem(problems) from next(iter(problems.values()))
    return found


def _ask(how: Callable[[Path], T], root: Path) -> T:
    """Return what `how` says of `root`. Raises: DataError, also for what the system refuses, as a locked folder."""
    try:
        return how(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror}") from error


def _problem(problems: Mapping[str, DataError]) -> DataProblem:
    fetched = ", ".join(f"leoclr-ops data fetch {name}" for name in problems if name in ARCHIVES)
    names = ", ".join(f"--data {name}=DIR" for name in problems)
    hint = f"say where it lies: {names}" + (f"; or download it: {fetched}" if fetched else "")
    (first, error), *others = problems.items()
    if not others:
        return DataProblem(str(error), place=f"data set {first}", hint="; ".join(filter(None, [error.hint, hint])))
    facts = [f"{name}: {each}" for name, each in problems.items()]
    return DataProblem("\n  ".join([f"{len(problems)} data sets cannot be read:", *facts]), hint=hint)


def _root(name: str, spec: PipelineSpec, home: Home) -> Path:
    root = spec.data.get(name, home.data(name))
    far = address(root)
    return shards.root(far, home.stores) if far else root
