"""What chaos prints and puts into pages; the faults themselves are tried by `leoclr-ops chaos` and tests/faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestration.chaos import drive, page
from orchestration.chaos.drive import Outcome
from orchestration.chaos.faults import FAULTS
from orchestration.chaos.lab import STEPS, Broken
from orchestration.chaos.processes import heir
from orchestration.chaos.proof import Left, computed_again, require_same
from orchestration.chaos.soak import Soaked
from orchestration.chaos.trial import INTERVAL, Evidence, Trial
from orchestration.errors import LeoclrOpsError, NotFound

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
        Outcome(WORKER, True, Evidence("began again", 7, 0), 31.4),
        Outcome(FAULTS[1], False, Evidence("BROKEN: it\nlay | there"), 5.0),
        Outcome(FAULTS[2], False, Evidence("BROKEN: 2 values differ", lost=2), 6.0),
    ]
    sentence = "3 faults tried, 1 survived, 7 steps repeated, 2 values lost in 2 comparisons with a calm run"
    assert page.summary(outcomes) == sentence
    assert page.line(outcomes[0]) == "kept   worker         31 s  began again"
    text = page.matrix(outcomes, seed=3, where="here")
    assert text.splitlines()[0] == f"{sentence}."
    first, second, third = text.splitlines()[-3:]
    assert "| `worker` |" in first and "| kept: began again | 7 | 0 | 31 | seed 3, here |" in first
    assert "**broken**: BROKEN: it lay / there | - | - | 5 |" in second
    assert "**broken**: BROKEN: 2 values differ | - | 2 | 6 |" in third


def test_what_is_tried_apart_replaces_its_own_rows_alone() -> None:
    outcomes = [Outcome(fault, True, Evidence("so", 7, 0), 1.0) for fault in FAULTS[:3]]
    whole = page.put("# Chaos\n", page.MATRIX, page.matrix(outcomes, seed=0, where="there"))
    again = [Outcome(FAULTS[5], True, Evidence("new"), 2.0), Outcome(FAULTS[1], False, Evidence("BROKEN", 9, 3), 3.0)]
    text = page.put(whole, page.MATRIX, page.matrix(again, seed=4, where="here", earlier=page.rows(whole)))
    assert "4 faults tried, 3 survived, 23 steps repeated, 3 values lost in 3 comparisons with a calm run." in text
    lines, before = page.rows(text), page.rows(whole)
    assert list(lines) == [fault.name for fault in (*FAULTS[:3], FAULTS[5])]
    assert [lines[FAULTS[at].name] for at in (0, 2)] == [before[FAULTS[at].name] for at in (0, 2)]
    assert [lines[FAULTS[at].name].endswith("| seed 4, here |") for at in (1, 5)] == [True, True]
    assert page.rows("# Chaos\n") == {}
    with pytest.raises(LeoclrOpsError, match="has other columns"):
        page.rows(whole.replace(" tried |", ""))


def test_the_page_that_we_have_takes_rows() -> None:
    text = (Path(__file__).parents[3] / "docs/chaos.md").read_text()
    lines = page.rows(text)
    assert set(lines) <= {fault.name for fault in FAULTS}
    assert page.matrix([], seed=0, where="", earlier=lines) in text


def test_what_a_broken_promise_measured_is_told(tmp_path: Path) -> None:
    def strike(trial: Trial) -> Evidence:
        raise Broken("it differs", repeated=3, lost=2)

    outcome = drive._try(replace(WORKER, strike=strike), Trial(tmp_path, lambda workers: CALM, Random(0)))
    assert (outcome.kept, outcome.evidence.repeated, outcome.evidence.lost) == (False, 3, 2)


def test_a_page_is_written_anew_in_its_part_alone() -> None:
    once = page.put("# Chaos\n", page.MATRIX, "one")
    both = page.put(once, page.SOAK, page.soak(Soaked(1, Counter(driver=2), 3, 4, 0, 90.0), where="here"))
    again = page.put(both, page.MATRIX, "two")
    assert "one" not in again and again.count("two") == 1
    assert again.replace("two", "one") == both
    assert "2 kills in 2 minutes, 3 starts of the driver, 4 steps repeated at most, 0 values lost" in again


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
        with pytest.raises(Broken, match=f"{lost} values") as caught:
            require_same(CALM, other)
        assert caught.value.lost == lost
    else:
        require_same(CALM, other)


def test_weights_that_differ_in_a_bit_break_the_promise() -> None:
    other = Left(CALM.results, CALM.histories, {"a": "x"}, CALM.states, CALM.runs)
    with pytest.raises(Broken, match="the weights of a differ") as caught:
        require_same(CALM, other)
    assert caught.value.lost == 0  # of the histories


def test_steps_that_a_soak_repeats_are_counted_by_log_and_journal() -> None:
    def at(second: int) -> str:
        return f"{datetime.fromtimestamp(1_790_000_000 + second):%Y-%m-%d %H:%M:%S},500"

    log = f"""{at(0)} INFO worker 0: pretrain starts on cpu with 1 worker(s)
{at(11)} ERROR worker 0: stopped by
pretrain continues from checkpoint 00000001
{at(12)} INFO worker 0: pretrain starts on cpu with 1 worker(s)
{at(30)} INFO worker 0: pretrain continues from checkpoint 00000010: epoch 0, step 10
{at(40)} INFO worker 0: pretrain continues from checkpoint 00000020: epoch 0, step 20
"""
    lines: list[dict[str, Any]] = [
        {"s": step, "t": (1_790_000_000 + second) * 1000, "m": {}, "p": [1, 2, 0.5]}
        for step, second in ((1, 1), (7, 10), (13, 25), (20, 35), (21, 45))
    ]
    lines += [{"e": 0, "s": 62, "t": 1_790_000_001_000, "m": {}}, {"y": 99, "t": 1_790_000_001_000, "m": {}, "p": []}]
    assert computed_again(log, lines) == 7 + 3 + 0
    assert computed_again("", lines) == computed_again(log, []) == 0


def test_an_heir_is_struck_while_the_first_trains_whatever_it_takes_the_second(tmp_path: Path) -> None:
    did: list[str] = []

    class Standing:
        """A lab whose training goes on with every look, unless it is held."""

        held, step = False, 0

        def begin(self) -> str:
            return "first"

        def start(self) -> str:
            did.append("second")
            return "second"

        def steps(self) -> int:
            self.step += not self.held
            return self.step

        def wait_for_step(self, step: int, process: str) -> int:
            while self.steps() < step:
                assert not self.held
            return self.step

        def find(self, process: str, *names: str) -> Standing:
            return self

        def suspend(self) -> None:
            self.held = True

        def resume(self) -> None:
            self.held = False

        def said(self, process: str) -> str:
            return "" if self.steps() == 0 else "run 1234 does the same already"

        def kill(self, process: str) -> None:
            did.append(f"killed {process} after {self.step}, held: {self.held}")

        def wait(self, process: str) -> str:
            return "going on here"

    class Standby:
        random = Random(0)

        @contextmanager
        def lab(self, **how: Any) -> Iterator[Standing]:
            assert how == {"hang_after_s": 0}
            yield Standing()

        def same(self, lab: Standing, text: str, *, at: int) -> Evidence:
            did.append(f"struck after {at}")
            assert INTERVAL < at < STEPS
            return Evidence(text)

    heir(Standby())  # type: ignore[arg-type]  # all that it asks of a trial
    second, killed, struck = did
    assert (second, killed) == ("second", f"killed first after {struck.split()[-1]}, held: False")
