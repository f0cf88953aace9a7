"""The backbone of a finished pre-training becomes a file that another project loads."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import imported
from jobs.inputs import BACKBONE
from orchestration import records
from orchestration.errors import FileProblem, NotFound
from orchestration.records import StageRun
from orchestration.tracking import Store

if TYPE_CHECKING:
    from leoclr.formats import Format

SHORT = 8  # characters of a run id that tell runs apart


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written."""

    path: Path
    load: str  # how its project loads it


def export(store: Store, reference: str, form: Format, *, out: Path | None = None, force: bool = False) -> Exported:
    """Write the backbone of the pre-training that `reference` begins, and return where.

    Without `out` the file is named after method, run and format, in the current folder. Only `force` overwrites.

    Raises: NotFound when there is no such run, or it is no pre-training; StoreError when it did not finish or its
        artifact is damaged; FileProblem when the file is there, or the project has no such network.
    """
    from leoclr import formats  # here: building a network loads torch's compiler, 3 s

    run = _pretraining(store, reference)
    suffix, load = formats.FORMATS[form]
    path = out or Path(_default_name(run, form, suffix))
    if path.suffix != suffix:
        raise FileProblem(f"a {form} file ends in {suffix}", place=str(path), hint="its project reads by the suffix")
    if path.exists() and not force:
        raise FileProblem("there is a file already", place=str(path), hint="--force overwrites it, --out names another")
    try:
        trunk = formats.read(store.fetch(run.run_id, BACKBONE))
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as draft:  # whole, or not at all
            formats.write(Path(draft, path.name), trunk, form)
            Path(draft, path.name).replace(path)
    except formats.FormatError as error:
        raise FileProblem(str(error), place=f"run {run.run_id}", hint=error.hint) from error
    except OSError as error:
        raise FileProblem(f"it cannot be written: {error.strerror}", place=str(path)) from error
    return Exported(path, load.format(trunk.backbone).replace("FILE", repr(str(path))))


def _pretraining(store: Store, reference: str) -> StageRun:
    """Return the run that `reference` means. Raises: NotFound where it is no pre-training, with those it stands on."""
    run_id = store.find(reference)
    run = store.stage_runs([run_id]).get(run_id)
    if run is not None and run.kind == "pretrain":
        return run
    near = _inputs(store, run) if run else _of_submission(store, run_id)
    what = f"is of kind `{run.kind}`" if run else "is a submission"
    hint = f"its pre-training: {', '.join(near)}" if near else ""
    raise NotFound(f"run {run_id[:SHORT]} {what}, and a backbone comes from a `pretrain`", hint=hint)


def _inputs(store: Store, run: StageRun) -> list[str]:
    """Return the finished pre-trainings that a stage started from."""
    needed = json.loads(run.tags[records.INPUTS]).values()
    past = [past for own in needed for past in store.past_runs(own)]
    return [each.run_id[:SHORT] for each in past if each.kind == "pretrain" and each.reusable]


def _of_submission(store: Store, run_id: str) -> list[str]:
    """Return the pre-trainings of a submission."""
    submission = store.submission(run_id)
    runs = store.stage_runs(
        run for stages in (submission.arms if submission else {}).values() for run in stages.values()
    )
    return [f"{each.run_id[:SHORT]} ({each.arm or each.stage})" for each in runs.values() if each.kind == "pretrain"]


def _default_name(run: StageRun, form: Format, suffix: str) -> str:
    method = run.params["method"]
    if method == imported.METHOD:
        method = run.params["settings"]["as_method"]
    project = "" if form == "safetensors" else f".{form}"
    return f"{method}-{run.run_id[:SHORT]}{project}{suffix}"
