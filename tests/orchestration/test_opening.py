"""To look creates nothing; to open ends what a killed process left as running."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orchestration import opening, provenance
from orchestration.errors import NotFound
from orchestration.plan import Plan
from orchestration.storage import Home
from orchestration.tracking import Store

PLAN = Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def submission(store: Store) -> str:
    return store.begin_submission(PLAN, title="", spec_yaml="", arm_labels={}, resume=None)


def test_to_look_where_nothing_is_creates_nothing(tmp_path: Path) -> None:
    assert opening.past() == (Home(tmp_path / "home"), None)
    with pytest.raises(NotFound, match="nothing was submitted yet") as caught:
        opening.known()
    assert "LEOCLR_OPS_HOME" in caught.value.hint
    assert caught.value.place == str(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_tracking_server_is_asked_though_there_is_no_file_here(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    _, store = opening.past()
    assert store
    assert store.uri.endswith("elsewhere.db")
    assert not Home.default().database.exists()


def test_all_three_open_the_same_store(home: Home, store: Store) -> None:
    run_id = submission(store)
    for found, opened in (opening.create(), opening.past(), opening.known()):
        assert found == home
        assert opened
        assert [each.run_id for each in opened.submissions()] == [run_id]
        assert [each.status for each in opened.submissions()] == ["RUNNING"]  # this very process runs it


def test_a_run_that_nobody_runs_is_ended_by_whoever_looks(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = provenance.Owner.current()
    with monkeypatch.context() as patch:
        gone = provenance.Owner(owner.host, os.getpid(), owner.created - 1000)  # its id belongs to another process now
        patch.setattr(provenance.Owner, "current", lambda: gone)
        submission(store)
    _, opened = opening.known()
    assert [each.status for each in opened.submissions()] == ["KILLED"]
