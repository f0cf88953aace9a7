"""A tracking store for each test. MLflow takes seconds to create its tables: once a test session, then copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import filelock
import pytest

from orchestration.storage import Home
from orchestration.tracking import Store


def pytest_configure(config: pytest.Config) -> None:
    """Let MLflow 3.17 use what SQLAlchemy 2.1 deprecates: no change of ours could avoid it."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with MLflow's tables and no experiment of ours; parallel test processes share it."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if base.name.startswith("popen-") else base  # pytest-xdist gives each process its own folder
    file = folder / "empty-mlflow.db"
    with filelock.FileLock(folder / "empty-mlflow.lock"):
        if not file.exists():
            from mlflow.tracking import MlflowClient

            draft = folder / "draft-mlflow.db"
            MlflowClient(tracking_uri=f"sqlite:///{draft}").get_experiment("0")
            draft.rename(file)
    return file


@pytest.fixture
def home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a home with an empty tracking store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home")
    home.path.mkdir()
    shutil.copy(empty_database, home.database)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    """Return that store, open."""
    return Store.open(home)
