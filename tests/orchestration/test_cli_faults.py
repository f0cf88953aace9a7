"""`chaos` from the command line: what cannot be done is refused before anything runs; a page keeps its other rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestration.chaos import drive, page, soak
from orchestration.chaos.drive import Outcome
from orchestration.chaos.faults import Fault
from orchestration.chaos.trial import Evidence
from orchestration.cli import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The faults that were tried, all kept."""
    names: list[str] = []

    def run(faults: Iterable[Fault], folder: Path, **how: Any) -> Iterator[Outcome]:
        for fault in faults:
            names.append(fault.name)
            yield Outcome(fault, True, Evidence("kept", 5, 0), 1.0)

    monkeypatch.setattr(drive, "run", run)
    monkeypatch.setattr(soak, "run", lambda *args, **how: pytest.fail("it soaks"))
    return names


def chaos(tmp_path: Path, *words: str) -> Any:
    return runner.invoke(app, ["chaos", "--home", str(tmp_path / "work"), *words])


@pytest.mark.parametrize("page", ["nosuchdir/x.md", "."])
def test_a_page_that_cannot_be_written_is_refused_before_the_run(
    page: str, tmp_path: Path, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = chaos(tmp_path, "--only", "worker", "--write", page)
    assert (result.exit_code, tried) == (2, [])
    assert "cannot be written" in result.output


def test_a_soak_of_one_fault_is_refused(tmp_path: Path) -> None:
    result = chaos(tmp_path, "--soak", "--only", "worker")
    assert result.exit_code == 2
    assert "a soak strikes at random" in result.output


def test_the_rows_of_other_faults_stay(tmp_path: Path, tried: list[str]) -> None:
    file = tmp_path / "chaos.md"
    assert chaos(tmp_path, "--only", "worker", "--only", "hang", "--write", str(file)).exit_code == 0
    before = page.rows(file.read_text())
    assert chaos(tmp_path, "--only", "sealed", "--seed", "7", "--write", str(file)).exit_code == 0
    assert tried == ["worker", "hang", "sealed"]
    after = page.rows(file.read_text())
    assert list(after) == ["worker", "sealed", "hang"]
    assert {name: after[name] for name in before} == before
    assert "3 faults tried, 3 survived, 15 steps repeated, 0 values lost in 3 comparisons" in file.read_text()


def test_a_page_of_another_form_is_refused_before_the_run(tmp_path: Path, tried: list[str]) -> None:
    file = tmp_path / "chaos.md"
    file.write_text(page.put("", page.MATRIX, "1 fault\n\n| row | fault |\n|---|---|\n| 1 | `worker` |"))
    result = chaos(tmp_path, "--only", "worker", "--write", str(file))
    assert (result.exit_code, tried) == (1, [])
    assert "other columns" in f"{result.output}{result.exception}"
