"""What a home holds in the end, read without the product: runs and histories from SQLite, files from the disk."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from tests.faults.points import nameless

MEASURED = ("system/", "images_per_s")  # by the clock: differ from run to run
MEMORY = "verified.json"  # of files that were hashed: only where something was looked at twice
_ROW = re.compile(r"^tiny .*\d$", re.MULTILINE)


def of(folder: Path) -> dict[str, Any]:
    """Return all that must be equal, whatever was killed on the way; the last command's output holds the table."""
    with closing(sqlite3.connect(folder / "home/mlflow.db")) as database:
        runs = _stages(database)
        return {
            "runs": {stage: [status for _, status in each] for stage, each in runs.items()},
            "histories": {stage: _history(database, each[0][0]) for stage, each in runs.items()},
            "running": database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone(),
            "results": {stage: _result(folder / "home/artifacts" / each[0][0]) for stage, each in runs.items()},
            "models": [
                _weights(folder, each) for each in database.execute("SELECT artifact_location FROM logged_models")
            ],
            "table": set(_ROW.findall((folder / "output.txt").read_text())),
            "files": _files(folder / "home"),
        }


def _stages(database: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    """Return (run id, status) of each run of a stage, by stage."""
    found = defaultdict(list)
    wanted = "SELECT runs.run_uuid, status, value FROM runs JOIN tags ON runs.run_uuid = tags.run_uuid WHERE key = ?"
    for run_id, status, stage in database.execute(wanted, ["leoclr.stage"]):
        found[stage].append((run_id, status))
    return dict(found)


def _history(database: sqlite3.Connection, run_id: str) -> list[tuple[str, int, float]]:
    """Return every point of a run's curves: one that was recorded twice is there twice."""
    rows = database.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", [run_id])
    return sorted(row for row in rows if not row[0].startswith(MEASURED))


def _result(folder: Path) -> dict[str, Any]:
    """Return what a stage ended with; its log and manifest tell times."""
    artifacts = folder / "artifacts"
    manifest = json.loads((artifacts / "manifest.json").read_text())["files"]
    for name, facts in manifest.items():
        assert hashlib.sha256((artifacts / name).read_bytes()).hexdigest() == facts["sha256"], name
    state = torch.load(artifacts / "checkpoint.pt", weights_only=True)
    plain = {name: (artifacts / name).read_bytes() for name in manifest if name not in ("log.txt", "checkpoint.pt")}
    return {"state": _plain(state), **plain}


def _plain(state: Any) -> Any:
    """Return a state whose tensors are bytes, to be compared with ==."""
    if isinstance(state, torch.Tensor):
        return str(state.dtype), tuple(state.shape), state.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return [_plain(value) for value in state] if isinstance(state, list | tuple) else state


def _weights(folder: Path, location: tuple[str]) -> bytes:
    """Return the sha256 of its weights as a registered checkpoint has it."""
    noted = json.loads((Path(location[0].removeprefix("file://")) / "checkpoint.json").read_text())
    return str(noted["sha256"]).encode()


def _files(home: Path) -> list[str]:
    """Return the names of all files, with words in place of ids."""
    names = (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.name != MEMORY)
    return sorted({nameless(name) for name in names})
