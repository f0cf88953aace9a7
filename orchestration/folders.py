"""The folders of the home as the runner sees them: which run is recorded where, and the sealed result of a stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from leoclr import checkpoint
from orchestration.storage import MANIFEST, write_atomic


@dataclass(frozen=True, slots=True)
class Sealed:
    """A whole result on disk."""

    folder: Path
    metrics: dict[str, float]
    ended_ms: int  # Unix time at which the worker sealed it: the same however often it is recorded


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one fingerprint; its owner holds `lock`."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def run_id(self) -> str | None:
        """Return the MLflow run that this stage is recorded in, or None."""
        return read_run(self.path / "run.json")

    def note_run(self, run_id: str) -> None:
        """Say which run the stage is recorded in; a new one gets the whole history, or its own without a checkpoint."""
        if run_id != self.run_id():
            (self.path / "journal.sent").unlink(missing_ok=True)
            if not (self.path / "checkpoints").exists() and not (self.path / "result").exists():
                (self.path / "journal.jsonl").unlink(missing_ok=True)
        write_run(self.path / "run.json", run_id)

    def sealed(self) -> Sealed | None:
        """Return the result if it is there and whole."""
        folder = self.path / "result"
        if not checkpoint.sealed(folder, fingerprint=self.path.name):
            return None
        ended_ms = int(json.loads((folder / MANIFEST).read_text())["ended_ms"])
        return Sealed(folder, json.loads((folder / "metrics.json").read_text()), ended_ms)

    def drop_result(self) -> None:
        """Remove what MLflow has now; log, journal and run id stay."""
        shutil.rmtree(self.path / "result", ignore_errors=True)


def read_run(path: Path) -> str | None:
    """Return the run id noted in a file, or None."""
    try:
        return str(json.loads(path.read_text())["run_id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # never written, or torn by a crash while it was
        return None


def write_run(path: Path, run_id: str) -> None:
    """Note a run id in a file."""
    write_atomic(path, json.dumps({"run_id": run_id}))
