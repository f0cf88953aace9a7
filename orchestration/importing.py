"""A public checkpoint becomes a finished pre-training: converted, sealed, recorded, so that evaluations start from it.

The run is the one that a pipeline's stage asks for with `method: imported` and the sha256 of the file: planning finds
it done. Where the file lies, and what it is called, decides nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import imported
from jobs.contract import NO_DATA
from jobs.inputs import BACKBONE
from leoclr import RESULTS_VERSION, checkpoint
from orchestration import plan, records, spec, storage
from orchestration.document import dump
from orchestration.errors import FileProblem, NotFound
from orchestration.folders import StageFolder
from orchestration.plan import Plan, PlannedStage, State
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store

if TYPE_CHECKING:
    from leoclr.formats import Trunk

PIPELINE = "import"  # what the submissions are called that bring files in
WAIT_S = 10.0  # for another process that imports the same file: it takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What its authors say of a checkpoint; recorded, and no number depends on it."""

    dataset: str = ""  # that it was pre-trained on
    epochs: int | None = None
    batch: int | None = None  # images of a step


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that is registered."""

    run_id: str
    stage: str  # YAML: `stages:` with the pre-training that means it
    summary: str  # a line for the user
    is_new: bool  # False where it was imported before


def register(file: Path, *, as_method: str, published: Published, home: Home, store: Store) -> Imported:
    """Record the trunk in `file` as a finished pre-training by `as_method`, once.

    Raises: NotFound when there is no such file; FileProblem when it is no checkpoint of a ResNet of ours, could run
        code, or `as_method` cannot be a name; StoreError when the store cannot be used.
    """
    if not imported.is_name(as_method):
        hint = "such as moco_v2: lower-case letters, digits and _ . -, up to 64"
        raise FileProblem(f"no method can be called `{as_method}`", place="--as", hint=hint)
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    trunk, digest = _read(file), storage.sha256(file)
    yaml = dump({"stages": {"pretrain": {"params": _params(as_method, digest)}}})
    pipeline = _pipeline(yaml)
    facts = {"file": file.name, "as_method": as_method, "sha256": digest, **_facts(trunk), **asdict(published)}
    summary = f"{file.name} as {as_method}, layout {trunk.layout}: {_architecture(trunk)}"
    with storage.locked(_plan(pipeline, store, home)[1].lock, wait_s=WAIT_S):
        made, folder = _plan(pipeline, store, home)  # again: another process may have imported it meanwhile
        (stage,) = made.stages
        if stage.state is State.DONE and stage.run_id:
            return Imported(stage.run_id, yaml, summary, is_new=False)
        _seal(trunk, folder, summary=summary, facts=facts)
        run_id = _record(pipeline, made, stage, store=store, folder=folder, facts=facts)
    return Imported(run_id, yaml, summary, is_new=True)


def _read(file: Path) -> Trunk:
    from leoclr import formats  # here: building a network loads torch's compiler, 3 s

    try:
        return formats.read(file)
    except formats.FormatError as error:
        raise FileProblem(str(error), place=str(file), hint=error.hint) from error


def _params(as_method: str, digest: str) -> dict[str, Any]:
    return {"method": imported.METHOD, "settings": {"as_method": as_method, "sha256": digest}}


def _pipeline(yaml: str) -> PipelineSpec:
    """Return the pipeline of `yaml`, read as any other: what the user pastes is what is recorded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{PIPELINE}.yaml")
        path.write_text(yaml, encoding="utf-8")
        return spec.load(str(path))


def _plan(pipeline: PipelineSpec, store: Store, home: Home) -> tuple[Plan, StageFolder]:
    digests = {NO_DATA: ""}
    wanted = plan.fingerprints(pipeline, digests=digests, results_version=RESULTS_VERSION)
    past = store.past_of(wanted, pipeline.name)
    made = plan.make(pipeline, digests=digests, past=past, results_version=RESULTS_VERSION)
    return made, StageFolder(home.stage(made.stages[0].fingerprint))


def _facts(trunk: Trunk) -> dict[str, Any]:
    names = ("layout", "backbone", "width", "stem", "left_out")
    return {name: getattr(trunk, name) for name in names}


def _architecture(trunk: Trunk) -> str:
    left = f"; left out: {', '.join(trunk.left_out)}" if trunk.left_out else ""
    return f"{trunk.backbone} of width {trunk.width} with the {trunk.stem} stem{left}"


def _seal(trunk: Trunk, folder: StageFolder, *, summary: str, facts: Mapping[str, Any]) -> None:
    """Write the result that a pre-training leaves, less what only training has."""
    draft = folder.path / ".import"
    shutil.rmtree(draft, ignore_errors=True)  # what a kill left
    draft.mkdir(parents=True)
    network = trunk.build()
    checkpoint.save_backbone(draft / BACKBONE, network, name=trunk.backbone, width=trunk.width, stem=trunk.stem)
    (draft / "import.json").write_text(json.dumps(facts, indent=1, sort_keys=True))
    (draft / "metrics.json").write_text("{}")
    (draft / "log.txt").write_text(f"imported {summary}\nsha256 {facts['sha256']}\n", encoding="utf-8")
    checkpoint.seal(draft, folder.path / "result", fingerprint=folder.path.name, kind="pretrain", ended_ms=_now_ms())


def _record(
    pipeline: PipelineSpec,
    made: Plan,
    stage: PlannedStage,
    *,
    store: Store,
    folder: StageFolder,
    facts: Mapping[str, Any],
) -> str:
    """Record the sealed result as a stage of a submission of its own; return the run of the stage."""
    sealed = folder.sealed()
    assert sealed is not None, "it was sealed a moment ago, under the lock"
    parent = store.begin_submission(
        made,
        title=f"{facts['file']} as {facts['as_method']}",
        spec_yaml=pipeline.yaml,
        arm_labels={"": {}},
        resume=None,
    )
    run_id = store.begin_stage(stage, parent=parent, pipeline=made.pipeline, arm_labels={}, resume=stage.resume)
    store.set_tags(run_id, {records.IMPORT: json.dumps(facts)})
    store.record_arm(parent, "", stage.name, run_id)
    folder.note_run(run_id)
    store.finish_stage(run_id, metrics={}, result=sealed.folder, ended_ms=_now_ms())
    store.end(parent, "FINISHED")
    folder.drop_result()
    return run_id


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
