"""After kills: MLflow's view, Ray's and our own are brought together. Nothing here is needed to submit again.

MLflow believes that a killed run runs (`reconcile`). Ray leaves a snapshot that may be torn, and is never asked. On our
disk, drafts are left of what was being written, and results that are whole but not recorded yet.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jobs import alive
from orchestration import records, storage
from orchestration.folders import Sealed, StageFolder
from orchestration.reconcile import reconcile
from orchestration.recorder import Recorder
from orchestration.storage import Home
from orchestration.tracking import Store

OLD_S = 3600.0  # after which nobody is writing a file any more that carries a draft's name
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's own, written in place
DRAFTS = (".result-*", "checkpoints/.draft-*", ".*.json.*", ".journal.sent.*", SNAPSHOT, alive.FILE)  # of a stage
UPLOADS = ".artifact.uploading.*"  # MLflow's, of artifacts in a folder


def repair(home: Home, store: Store) -> Iterator[str]:
    """Repair what kills left, and yield a line on each repair. What somebody is at work on is left alone.

    Raises: StoreError where the store does not answer.
    """
    for run_id in reconcile(store):
        yield f"ended run {run_id[:8]}: {store.tags(run_id).get(records.REASON, '')}"
    for path in sorted(home.stage("x").parent.glob("[0-9a-f]*")):
        try:
            with StageFolder.of(home, path.name).held(), storage.locked(path / "worker.lock"):
                yield from _stage(StageFolder.of(home, path.name), store)
        except storage.Busy:
            continue
    for draft in _old_drafts(home):
        yield _removed(draft, home.path)


def _stage(folder: StageFolder, store: Store) -> Iterator[str]:
    """Repair one stage, which nobody is at work on."""
    for pattern in DRAFTS:
        for draft in sorted(folder.path.glob(pattern)):
            yield _removed(draft, folder.path.parent)
    run_id = folder.run_id()
    found = store.stage_runs([run_id]).get(run_id) if run_id else None
    left = [part for part in ("result", "checkpoints") if (folder.path / part).exists()]
    if found is None or not left:
        return
    title = f"{found.stage} {found.arm}".rstrip()
    if found.status == "FINISHED":
        folder.drop_result()
        yield f"removed {' and '.join(left)} of {title}, whose result run {found.run_id[:8]} has"
    elif "result" in left and (sealed := folder.sealed()):
        damage = _record(folder, found.run_id, sealed, store)
        yield f"recorded the result of {title}, run {found.run_id[:8]}" + (f"; {damage}" if damage else "")


def _record(folder: StageFolder, run_id: str, sealed: Sealed, store: Store) -> str:
    """Do what the submission that computed a result was killed before; say which numbers the disk has lost."""
    recorder = Recorder(store, "")
    try:
        recorder.follow(run_id, folder.path)
        recorder.drain(run_id)
    finally:
        recorder.close()
    store.finish_stage(run_id, metrics=sealed.metrics, result=sealed.folder, ended_ms=sealed.ended_ms)
    folder.drop_result()
    return recorder.damage


def _old_drafts(home: Home) -> Iterator[Path]:
    """Yield files that were being written when their process was killed, long ago."""
    before = time.time() - OLD_S
    places = [(home.path, ".*.json.*"), (home.submission("x").parent, ".*.json.*")]
    found = [path for folder, pattern in places for path in folder.glob(pattern)] + [*home.artifacts.rglob(UPLOADS)]
    yield from (path for path in sorted(found) if path.is_file() and path.stat().st_mtime < before)


def _removed(path: Path, root: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return f"removed {path.relative_to(root)}, which was not finished"
