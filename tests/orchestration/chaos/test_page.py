"""What chaos prints and puts into pages; the faults themselves are tried by `leoclr-ops chaos` and tests/faults."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestration.chaos import drive, page
from orchestration.chaos.drive import Outcome
from orchestration.chaos.faults import FAULTS
from orchestration.chaos.lab import Broken
from orchestration.chaos.proof import Left, require_same
from orchestration.chaos.soak import Soaked
from orchestration.chaos.trial import Evidence
from orchestration.errors import NotFound

MATRIX = (Path(__file__).parents[3] / "docs/faults.md").read_text()
WORKER = FAULTS[0]
CALM = Left({"a": {"top1": 1.0}}, {"a": {"loss": [(1, 0.5), (2, 0.25)]}}, {"a": "w"}, {"a": "s"}, {"a": "run"})


def test_every_fault_has_a_name_of_its_own_and_its_row_in_the_matrix() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        (row,) = (line for line in MATRIX.splitlines() if line.startswith(f"| {fault.rows} |"))
        assert f"--only {fault.name}" in row


def test_the_matrix_has_all_thirty_rows_each_with_a_test_that_is_there() -> None:
    rows = [line.split("|")[1:5] for line in MATRIX.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, 31))
    root, folder = Path(__file__).parents[3], ""
    for *_, proofs in rows:
        for name in (part for part in proofs.split("`")[1::2] if part.endswith(".py") or part.startswith("tests/")):
            folder = str(Path(name).parent) if name.startswith("tests/") else folder
            assert (root / (name if name.startswith("tests/") else f"{folder}/{name}")).exists(), name


def test_faults_are_chosen_by_name() -> None:
    assert drive.choose([]) == FAULTS
    assert [fault.name for fault in drive.choose(["driver", "worker"])] == ["worker", "driver"]
    with pytest.raises(NotFound, match="no fault is called `fire`"):
        drive.choose(["fire"])


def test_outcomes_are_counted_and_told() -> None:
    outcomes = [
        Outcome(WORKER, True, Evidence("began again", 7), 31.4),
        Outcome(FAULTS[1], False, Evidence("BROKEN: it lay"), 5.0),
    ]
    assert page.summary(outcomes) == "2 faults tried, 1 survived, 7 steps repeated, 0 values lost"
    assert page.line(outcomes[0]) == "kept   worker         31 s  began again"
    first, second = page.matrix(outcomes, seed=3, where="here").splitlines()[-2:]
    assert "| `worker` |" in first and "| kept: began again | 7 | 0 | 31 |" in first
    assert "**broken**: BROKEN: it lay | - |  | 5 |" in second


def test_a_page_is_written_anew_in_its_part_alone() -> None:
    once = page.put("# Chaos\n", page.MATRIX, "one")
    both = page.put(once, page.SOAK, page.soak(Soaked(1, Counter(driver=2), 3, 4, 0, 90.0), where="here"))
    again = page.put(both, page.MATRIX, "two")
    assert "one" not in again and again.count("two") == 1
    assert again.replace("two", "one") == both
    assert "2 kills in 2 minutes, 3 starts of the driver, 4 steps repeated, 0 values lost" in again


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        ([(1, 0.5), (2, 0.25)], 0),
        ([(1, 0.5)], 1),
        ([(1, 0.5), (2, 0.25), (2, 0.25)], 1),  # once more
        ([(1, 0.5), (2, 0.3)], 2),  # one is missing, another is there
    ],
)
def test_every_value_that_differs_is_counted(found: list[tuple[int, float]], lost: int) -> None:
    other = Left(CALM.results, {"a": {"loss": found}}, CALM.weights, CALM.states, {"a": "another"})
    assert CALM.lost(other) == lost
    if lost:
        with pytest.raises(Broken, match=f"{lost} values"):
            require_same(CALM, other)
    else:
        require_same(CALM, other)


def test_weights_that_differ_in_a_bit_break_the_promise() -> None:
    other = Left(CALM.results, CALM.histories, {"a": "x"}, CALM.states, CALM.runs)
    with pytest.raises(Broken, match="the weights of a differ"):
        require_same(CALM, other)
