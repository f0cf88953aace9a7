"""What a plan must know of this machine before it can be made: the data's digests, and what ran before."""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs import imported
from jobs.contract import NO_DATA
from leoclr import RESULTS_VERSION
from leoclr import data as datasets
from leoclr.data.contract import DataError, DataSet
from orchestration import plan, preflight
from orchestration.errors import DataProblem, NotFound
from orchestration.plan import Plan, PlannedStage, State
from orchestration.preflight import Note
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store


def prepare(spec: PipelineSpec, home: Home, store: Store | None) -> Plan:
    """Return the plan of `spec`, given what `store` remembers; None is a store that does not exist yet.

    Raises: DataProblem when a data set is missing or broken; StoreError when the store cannot be read; NotFound when
        weights that another project trained were not imported.
    """
    past = store.past_runs() if store else []
    known = {NO_DATA: "", **digests(spec, home)}
    made = plan.make(spec, digests=known, past=past, results_version=RESULTS_VERSION)
    _require_imports(made)
    return made


def look_over(spec: PipelineSpec, made: Plan, home: Home) -> list[Note]:
    """Return what an expert would warn of before `made`, the plan of `spec`, runs.

    Raises: SpecError for what cannot work or contradicts itself.
    """
    names = {stage.spec.params.dataset for stage in made.stages if _trains_here(stage)}
    sizes = {name: _images(datasets.module(name).load(_root(name, spec, home))) for name in names}
    notes = preflight.examine(spec, sizes) + preflight.disk(made, shutil.disk_usage(_existing(home.path)).free)
    preflight.refuse(notes, spec.source)
    return notes


def _trains_here(stage: PlannedStage) -> bool:
    params = stage.spec.params
    return stage.kind == "pretrain" and stage.state is State.TODO and not preflight.is_imported(params)


def _images(data: DataSet) -> int:
    """Return how many images a pre-training on `data` draws from."""
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

    Raises: DataProblem when one is missing or broken.
    """
    names = sorted({stage.params.dataset for arm in spec.arms for stage in arm.stages.values()} - {NO_DATA})
    return {name: _digest(name, spec, home) for name in names}


def _digest(name: str, spec: PipelineSpec, home: Home) -> str:
    try:
        return datasets.module(name).digest(_root(name, spec, home))
    except DataError as error:
        hint = error.hint or f"say where it is: --data {name}=FOLDER"
        raise DataProblem(str(error), place=f"data set {name}", hint=hint) from error


def _root(name: str, spec: PipelineSpec, home: Home) -> Path:
    return spec.data.get(name, home.data(name))
