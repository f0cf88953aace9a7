"""gc from the command line: a list first, removal when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import storage
from orchestration.cli import app
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.orchestration import tracked

runner = CliRunner()


@pytest.fixture
def spare(home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nothing needs, a day old."""
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(home.path))
    tracked.table(tmp_path)
    tracked.finish(store, tmp_path)
    folder = home.stage(store.past_runs()[0].fingerprint)
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("x" * 100)
    old = time.time() - 2 * 86400
    for path in (folder / "journal.jsonl", folder):
        os.utime(path, (old, old))
    return folder


def test_a_list_comes_first(spare: Path) -> None:
    listed = runner.invoke(app, ["gc"])
    assert listed.exit_code == 0, listed.output
    assert str(spare) in listed.stdout
    assert "is finished and has its result" in listed.stdout
    assert "1 things, 0.0 MB to remove; --yes does it" in listed.stderr
    assert (spare / "journal.jsonl").exists()
    assert "nothing to remove" in runner.invoke(app, ["gc", "--older-than", "7d"]).stderr
    done = runner.invoke(app, ["gc", "--yes"])
    assert "removed" in done.stderr
    assert not (spare / "journal.jsonl").exists()
    assert "nothing to remove" in runner.invoke(app, ["gc"]).stderr


def test_what_is_left_is_not_counted_as_removed(spare: Path) -> None:
    with storage.locked(spare / "lock"):
        os.utime(spare, (time.time() - 2 * 86400,) * 2)
        done = runner.invoke(app, ["gc", "--yes"])
    assert done.stderr == "0 things, 0.0 MB removed; 1 left\n"
    assert "left: somebody has taken it up again" in done.stdout
    assert (spare / "journal.jsonl").exists()


def test_an_age_that_is_none_is_said(spare: Path) -> None:
    wrong = runner.invoke(app, ["gc", "--older-than", "soon"])
    assert wrong.exit_code == 1
    assert "error: --older-than: 'soon' is not an age" in wrong.stderr
    assert "such as 12h, 7d or 2w" in wrong.stderr
