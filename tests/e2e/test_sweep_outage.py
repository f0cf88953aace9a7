"""MLflow's server goes away while a sweep opens trials: it waits, and what runs goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestration.chaos.service import PATIENCE, mlflow
from tests.e2e.test_sweep import GRID, Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]
AWAY_S = 20.0


def test_a_sweep_outlives_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    with mlflow(tmp_path / "server") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        project = Project(tmp_path, GRID + "concurrency: 1\n")
        process = project.start("sweep", "s.yaml")
        deadline = time.monotonic() + 300
        while not any(entry.state == "done" for entry in project.ledger().entries.values()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        server.kill()  # the next trial is opened in a moment
        time.sleep(AWAY_S)
        assert process.poll() is None, process.communicate()[0]
        server.start()
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert [entry.state for entry in project.ledger().entries.values()] == ["done"] * 4
        runs = [trial.status for trial in project.store().submissions()]
    assert runs == ["FINISHED"] * 4
