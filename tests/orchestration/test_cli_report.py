"""What the commands `report` and `explain` print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.orchestration import tracked

runner = CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        ["report", "quickstart", "--all"],
        ["report", "--data", "folder"],
        ["explain", "quickstart", "--row", "LeOCLR"],
        ["explain", "quickstart", "--column", "linear top-1"],
        ["explain", "quickstart", "--row", "LeOCLR", "--column", "linear top-1", "--yaml"],
        ["explain"],
    ],
)
def test_wrong_usage_is_code_2(command: list[str]) -> None:
    assert runner.invoke(app, command).exit_code == 2


@pytest.mark.parametrize("command", [["report"], ["explain", "abcd"]])
def test_to_look_creates_nothing(command: list[str], tmp_path: Path) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "nothing was submitted yet" in result.stderr
    assert not (tmp_path / "home").exists()


def test_a_cell_and_a_report(store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.table(tmp_path)
    runs = tracked.finish(store, tmp_path)
    monkeypatch.chdir(tmp_path)
    where = ["explain", "tiny-table.yaml", "--row", "leoclr", "--column", "kNN"]
    said = runner.invoke(app, where)
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("tiny-table.yaml: LeOCLR, kNN: 82.0 +- 1.4 over 2 runs\n")
    told = json.loads(runner.invoke(app, [*where, "--json"]).stdout)
    assert [each["run_id"] for each in told["runs"]] == [runs["knn leoclr seed=0"], runs["knn leoclr seed=1"]]
    written = runner.invoke(app, ["report"])
    assert (written.exit_code, written.stdout, written.stderr) == (0, "tiny-report.html\n", "")
    assert (tmp_path / "tiny-report.html").stat().st_size > 10_000
    no_folder = runner.invoke(app, ["report", "--to", "tiny-report.html/x.html"])
    assert no_folder.exit_code == 1
    assert "cannot be written" in no_folder.stderr
