"""What every test stands on: one thread a process, no telemetry, no home of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.chromium import browser as browser

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)

SHARED = (  # files whose tests share what takes a minute to start
    "tests/e2e/test_cluster.py",
    "tests/e2e/test_pages.py",
    "tests/orchestration/report/test_browser.py",
)


class Dealt(LoadScopeScheduling):
    """Deals tests out one by one, those of a file of `SHARED` to one process; the largest parts first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in SHARED else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Take ours for `--dist loadscope`."""
    return Dealt(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test that forgets to name a home out of the folder it is started in."""
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(tmp_path / "home"))
