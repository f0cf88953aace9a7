"""What every test stands on: one thread a process, no telemetry, no home of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chromium import browser as browser

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test that forgets to name a home out of the folder it is started in."""
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(tmp_path / "home"))
