"""One run of the shortened quickstart, and undisturbed runs to compare with, serve all files of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.e2e.project import Project
from tests.e2e.quickstart import submitted as submitted


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[int], dict[str, Any]]:
    """What an undisturbed run with so many workers leaves; each is run once, also where tests run side by side."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def run(workers: int) -> dict[str, Any]:
        folder = shared / f"calm-{workers}"
        with FileLock(f"{folder}.lock"):
            if not Path(folder, "finished").exists():
                folder.mkdir()
                Project(folder, workers).finish()
                Path(folder, "finished").touch()
        return Project(folder, workers).result()

    return run
