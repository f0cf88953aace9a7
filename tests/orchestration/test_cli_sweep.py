"""The commands on sweeps: what is still to run, which names are those of sweeps, numbers as JSON takes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import cli_sweep
from orchestration.cli import app
from orchestration.storage import Home
from orchestration.sweep import look as sweep_look
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep.ledger import Entry, Ledger
from orchestration.sweep.search import begin
from orchestration.tracking import Store

FILE = """
name: my_sweep
base: quickstart
set: {matrix.method: [leoclr], pretrain.params.dataset: digits, linear.params.dataset: digits}
axes:
  pretrain.params.settings.temperature: [0.1, 0.2, 0.3, 0.4, 0.5]
objectives:
  top-1: {stage: linear, metric: top1}
"""

runner = CliRunner()


@pytest.fixture
def file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a sweep file; the home in use is that of this test."""
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(home.path))
    (tmp_path / "s.yaml").write_text(FILE)
    return tmp_path / "s.yaml"


@pytest.fixture
def killed(file: Path, home: Home) -> Ledger:
    """Return the ledger of a sweep that was killed: trial 0 done, 1 and 2 under way, 3 failed, 4 not yet made."""
    ledger = Ledger(home.path / "sweeps" / "my_sweep" / "1")
    search = begin(sweep_spec.load(str(file)), [], again=[])
    for asked in [asked for _ in range(4) if (asked := search.ask())]:
        ledger.make(asked, {"temperature": str(0.1 * (asked.number + 1))})
        ledger.attach(asked.number, f"run{asked.number}")
    ledger.tell_about(total=5, at_once=1, objective="top-1", direction="max")
    ledger.end(Entry(0, {}, (0,), "done", values={"top-1": 60.0}))
    ledger.end(Entry(3, {}, (0,), "failed", reason="no disk"))
    return ledger


def test_a_dry_run_lists_all_that_the_same_command_would_run(killed: Ledger, file: Path) -> None:
    before = dict(killed.entries)
    printed = runner.invoke(app, ["sweep", str(file), "--dry-run"])
    assert printed.exit_code == 0, printed.output
    listed = [line.split()[0] for line in printed.stdout.split("\n") if " seed=" in line]
    assert "5 trials of quickstart, 1 of them are finished" in printed.stdout
    assert listed == ["1", "2", "3", "4"]
    assert Ledger(killed.folder).entries == before


@pytest.mark.parametrize(
    ("search", "listed", "said", "stages"),
    [
        ("search: {kind: random}\nbudget: {trials: 3}", 3, "", 6),
        ("search: {kind: optuna}\nbudget: {trials: 3}\nseeds: [0, 1]", 0, "  3 whose values follow", 12),
        (
            "search: {kind: random}\nscheduler: {kind: pbt, population: 4, interval: 2}",
            4,
            "  4 whose values follow",
            16,
        ),
    ],
    ids=["chance", "a model", "a population"],
)
def test_a_dry_run_lists_what_is_known_and_says_how_many_more_there_are(
    tmp_path: Path, search: str, listed: int, said: str, stages: int
) -> None:
    (tmp_path / "s.yaml").write_text(
        "title: A search\nbase: quickstart\n"
        "set: {matrix.method: [leoclr], pretrain.params.dataset: digits, linear.params.dataset: digits}\n"
        "axes: {pretrain.params.settings.temperature: {loguniform: [0.05, 0.5]}}\n"
        f"objectives: {{top-1: {{stage: linear, metric: top1}}}}\n{search}\n"
    )
    printed = runner.invoke(app, ["sweep", str(tmp_path / "s.yaml"), "--dry-run"])
    assert printed.exit_code == 0, printed.output
    lines = printed.stdout.split("\n")
    assert sum(" temperature=0." in line for line in lines) == listed
    assert ("      temperature: 0.05 to 0.5, loguniform" in lines) == bool(said)
    assert any(said in line for line in lines)
    assert f"{stages} stages to run" in printed.stdout


def test_a_name_may_hold_all_that_a_sweep_file_allows(
    killed: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = runner.invoke(app, ["status", "my_sweep"])
    assert seen.exit_code == 0, seen.output
    assert "no disk" in seen.stdout
    stopped: list[str] = []

    def cancel(store: Store, name: str, ledger: Ledger) -> int:
        stopped.append(name)
        return 0

    monkeypatch.setattr(sweep_look, "cancel", cancel)
    assert runner.invoke(app, ["cancel", "my_sweep"]).exit_code == 0
    assert stopped == ["my_sweep"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/tmp", "../sweeps", "a" * 300, "a\0b", "no-such", "Upper", "~nobody"]
)
def test_what_is_no_name_of_a_sweep_is_no_sweep(killed: Ledger, name: str) -> None:
    (killed.folder.parents[1] / "Upper").mkdir()
    assert not cli_sweep.status(name, as_json=False)
    assert not cli_sweep.cancel(name)


def test_a_home_that_nobody_can_look_into_has_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(tmp_path / ("a" * 300)))
    assert not cli_sweep.status("my_sweep", as_json=False)


def test_to_look_for_a_sweep_imports_neither_torch_nor_ray(killed: Ledger) -> None:
    program = (
        "import sys\nfrom orchestration import cli_sweep\nassert cli_sweep._home_of('my_sweep')\n"
        "assert cli_sweep._home_of('no-such') is None\nprint(*sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ)
    )
    assert {"torch", "ray", "mlflow"}.isdisjoint(found.stdout.split())


def test_a_number_that_is_not_finite_is_null(killed: Ledger) -> None:
    values = {"top-1": float("nan"), "loss": float("-inf"), "seconds": 2.5}
    killed.end(Entry(1, {}, (0,), "diverged", reason="the loss is not finite", values=values))
    printed = runner.invoke(app, ["status", "my_sweep", "--json"])
    assert printed.exit_code == 0, printed.output

    def refuse(word: str) -> None:
        raise AssertionError(word)

    seen = json.loads(printed.stdout, parse_constant=refuse)
    assert seen["trials"][1]["values"] == {"top-1": None, "loss": None, "seconds": 2.5}
    assert seen["best"] == {"trial": 0, "top-1": 60.0}


def test_the_best_has_a_number(killed: Ledger) -> None:
    killed.end(Entry(0, {}, (0,), "done", values={"top-1": float("nan")}))
    killed.end(Entry(2, {}, (0,), "done", values={"top-1": 55.0}))
    best = sweep_look.look(killed).best
    assert best is not None
    assert (best[0].number, best[2]) == (2, 55.0)


@pytest.mark.parametrize("reference", ["~no-such-user/x.yaml", "a" * 300 + ".yaml"])
def test_what_is_no_path_is_one_readable_error(file: Path, reference: str) -> None:
    printed = runner.invoke(app, ["sweep", reference])
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert printed.stderr.startswith("error: sweep: `")
    assert "is not a path" in printed.stderr
    assert "hint: a path to a sweep file" in printed.stderr
