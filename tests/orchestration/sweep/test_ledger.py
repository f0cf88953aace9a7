"""The ledger outlives a kill, and refuses another question under the same name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestration.errors import SpecError, StoreError
from orchestration.storage import Home
from orchestration.sweep.ledger import Asked, Entry, Ledger, agree, folder_of


def filled(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.make(Asked(0, {"a.b": 0.1}, (0,)), {"b": "0.1"})
    ledger.attach(0, "run0")
    ledger.make(Asked(1, {"a.b": [0.2, 1.0]}, (0,)), {"b": "[0.2, 1.0]"})
    ledger.attach(1, "run1")
    ledger.end(
        Entry(0, {"a.b": 0.1}, (0,), "done", run_id="run0", values={"top-1": 60.0}, history=((1, 50.0),), seconds=2.5)
    )
    ledger.spend("one", 10.0)
    ledger.spend("one", 20.0)
    return ledger


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.spend("two", 5.0)
    again = Ledger(tmp_path)
    assert again.entries == ledger.entries
    assert again.spent_s == ledger.spent_s == 25.0
    done, cut = again.entries[0], again.entries[1]
    assert (done.state, done.values, done.history, done.seconds) == ("done", {"top-1": 60.0}, ((1, 50.0),), 2.5)
    assert (cut.state, cut.point, cut.run_id) == ("running", {"a.b": [0.2, 1.0]}, "run1")


@pytest.mark.parametrize("torn", ['{"n":', '{"n":2,"point":{}}'])
def test_half_a_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    filled(tmp_path)
    path = tmp_path / "ledger.jsonl"
    whole = path.read_text()
    path.write_text(whole + torn)
    ledger = Ledger(tmp_path)
    assert list(ledger.entries) == [0, 1]
    ledger.claim()
    assert path.read_text() == whole
    ledger.make(Asked(2, {}, (0,)), {})
    assert list(Ledger(tmp_path).entries) == [0, 1, 2]


def test_any_prefix_of_it_is_a_ledger(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "ledger.jsonl"
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert len(Ledger(tmp_path).entries) <= 2


def test_a_trial_that_runs_again_is_no_failure_any_more(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.end(Entry(1, {}, (0,), "failed", reason="no disk"))
    assert (ledger.entries[1].state, ledger.entries[1].reason) == ("failed", "no disk")
    ledger.attach(1, "run1")
    assert (ledger.entries[1].state, ledger.entries[1].reason) == ("running", "")


def test_another_question_is_refused_with_the_difference(tmp_path: Path) -> None:
    home = Home(tmp_path)
    folder = folder_of(home, "s")
    agree(folder, {"axes": {"lr": {"grid": [0.1, 0.2]}}, "seeds": [0]})
    agree(folder_of(home, "s"), {"axes": {"lr": {"grid": [0.1, 0.2]}}, "seeds": [0]})
    with pytest.raises(SpecError) as caught:
        agree(folder_of(home, "s"), {"axes": {"lr": {"grid": [0.1, 0.3]}}, "seeds": [0]})
    assert caught.value.fact.splitlines()[1:] == ["  axes.lr.grid [0.1, 0.2] -> [0.1, 0.3]"]
    assert "--new" in caught.value.hint
    other = folder_of(home, "s", new=True)
    assert other.name == "2"
    agree(other, {"axes": {}, "seeds": [1]})
    assert folder_of(home, "s") == other
    assert json.loads((folder / "identity.json").read_text())["seeds"] == [0]


@pytest.mark.parametrize("line", ['{"n": 0, "po', '{"m": 0}', "7", '{"n": 5, "state": "done"}'])
def test_a_damaged_ledger_is_one_clear_error(line: str, tmp_path: Path) -> None:
    Ledger(tmp_path).make(Asked(0, {}, (0,)), {})
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(StoreError, match=r"ledger\.jsonl") as caught:
        Ledger(tmp_path)
    assert "--new" in caught.value.hint
