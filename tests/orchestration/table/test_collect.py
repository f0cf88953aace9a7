"""Cells against the statistics module, why a cell is empty, when a number is bold, the texts against golden files."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration import records
from orchestration.errors import NotFound
from orchestration.records import StageRun, Status, Submission
from orchestration.table.collect import Table, collect
from orchestration.table.spec import Column, Difference, Published, Row, TableSpec
from orchestration.table.text import Format, render

GOLDEN = Path(__file__).parents[2] / "golden"
PARENT = "f0" * 16
LEOCLR, MOCO, CONTROL = (90.0, 91.5, 92.0), (85.0, 86.0, 87.0), (80.0, 80.0, 80.0)


class _Store:
    """Remembers runs as the tracking store does; `add` begins one."""

    def __init__(self) -> None:
        self.runs: dict[str, StageRun] = {}
        self.arms: dict[str, dict[str, str]] = {}
        self.labels: dict[str, dict[str, str]] = {}

    def add(
        self, method: str, seed: int, metrics: dict[str, float], *, stage: str = "linear", status: Status = "FINISHED"
    ) -> str:
        run_id, arm = f"{len(self.runs):08x}" + "0" * 24, f"{method} seed={seed}"
        self.runs[run_id] = StageRun(run_id, stage, stage, arm, status, metrics, {}, {}, 0, 0, PARENT)
        self.arms.setdefault(arm, {})[stage] = run_id
        self.labels[arm] = {"method": method, "seed": str(seed)}
        return run_id

    def submissions(self, pipeline: str | None = None, *, newest: int | None = None) -> list[Submission]:
        if not self.labels:
            return []
        return [Submission(PARENT, "quick", "", "FINISHED", 0, 0, 0, self.arms, self.labels, "host", 1, 0.0, 0)]

    def submission(self, run_id: str) -> Submission | None:
        return next((each for each in self.submissions() if each.run_id == run_id), None)

    def stage_runs(self, run_ids: Sequence[str]) -> dict[str, StageRun]:
        return {run_id: self.runs[run_id] for run_id in run_ids}

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]:
        return [run for run in self.runs.values() if run.kind == kind]

    def find(self, reference: str) -> str:
        return next(run_id for run_id in (PARENT, *self.runs) if run_id.startswith(reference))


def _spec(*columns: Column, published: dict[tuple[str, str], Published] | None = None) -> TableSpec:
    rows = tuple(
        Row(title, {"method": label}, label)
        for label, title in (("leoclr", "LeOCLR"), ("moco_v2", "MoCo_v2 & co"), ("random", "random | control"))
    )
    columns = columns or (Column("linear top-1", "linear", "top1"),)
    return TableSpec(
        "A table, 100 %",
        "quick",
        rows,
        columns,
        published or {},
        "arXiv:0000.00000" if published else "",
        flags={"again": "reproduced by others & more"},
        differences=(Difference("leoclr", "moco_v2", "LeOCLR - MoCo"),),
    )


def _full() -> _Store:
    store = _Store()
    for method, values in (("leoclr", LEOCLR), ("moco_v2", MOCO), ("random", CONTROL)):
        for seed, value in enumerate(values):
            store.add(method, seed, {"top1": value})
    return store


def _mixed() -> Table:
    """Return a table with a number of each sort: bold, plain, of one run, short of a run, empty, published."""
    store = _full()
    store.add("leoclr", 0, {"AP": 40.04}, stage="detection")
    store.add("leoclr", 1, {"AP": 42.06}, stage="detection")
    store.add("leoclr", 2, {}, stage="detection", status="FAILED")
    store.add("moco_v2", 0, {"AP": 41.0}, stage="detection")
    columns = (
        Column("linear top-1", "linear", "top1"),
        Column("linear, 2nd", "linear", "top1", "lower", 2),
        Column("AP_75", "detection", "AP"),
    )
    published = {
        ("LeOCLR", "AP_75"): Published(43.2, flags=("again",)),
        ("random | control", "AP_75"): Published(None, "a letter"),
    }
    return collect(_spec(*columns, published=published), store)


def test_mean_and_sample_deviation_are_those_of_the_statistics_module() -> None:
    table = collect(_spec(), _full())
    for (cell,), values in zip(table.cells, (LEOCLR, MOCO, CONTROL), strict=True):
        assert cell.mean == pytest.approx(statistics.mean(values))
        assert cell.std == pytest.approx(statistics.stdev(values))
        assert (cell.n, cell.missing) == (3, "")
    assert statistics.stdev(MOCO) == 1.0  # and not sqrt(2/3), the deviation of a whole population


def test_one_run_has_no_deviation() -> None:
    store = _Store()
    run_id = store.add("leoclr", 0, {"top1": 90.0})
    cell = collect(_spec(), store).cells[0][0]
    assert (cell.mean, cell.std, cell.n, cell.run_ids) == (90.0, None, 1, (run_id,))
    assert "90.0\n" in render(collect(_spec(), store), "text")
    assert "one run a cell" in render(collect(_spec(), store), "text")


@pytest.mark.parametrize(
    ("status", "metrics", "reason"),
    [
        ("FAILED", {"top1": 90.0}, "failed in run 00000000"),
        ("KILLED", {"top1": 90.0}, "stopped in run 00000000"),
        ("RUNNING", {"top1": 90.0}, "running in run 00000000"),
        ("FINISHED", {}, "no top1 in run 00000000"),
        ("FINISHED", {"top1": math.nan}, "top1 is nan in run 00000000"),
        ("FINISHED", {"top1": math.inf}, "top1 is inf in run 00000000"),
    ],
)
def test_a_run_without_the_number_leaves_its_reason(status: Status, metrics: dict[str, float], reason: str) -> None:
    store = _Store()
    store.add("leoclr", 0, metrics, status=status)
    [leoclr], [moco], _ = collect(_spec(), store).cells
    assert (leoclr.mean, leoclr.n, leoclr.run_ids, leoclr.missing) == (None, 0, (), reason)
    assert moco.missing == "the submission has no such arm"
    assert f"] {reason}" in render(collect(_spec(), store), "text")


def test_a_stage_that_was_not_begun_is_not_run() -> None:
    store = _full()
    assert collect(_spec(Column("AP", "detection", "AP")), store).cells[0][0].missing == "not run"


def test_a_cell_that_is_short_of_a_run_says_so_beside_its_mean() -> None:
    store = _full()
    broken = store.add("leoclr", 3, {}, status="FAILED")
    cell = collect(_spec(), store).cells[0][0]
    assert cell.mean == pytest.approx(statistics.mean(LEOCLR))
    assert (cell.n, cell.missing) == (3, f"failed in run {broken[:8]}")


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        ((90.0, 92.0, 91.0), (88.0, 90.2, 89.1), True),  # seeds move both alike: 2.0, 1.8, 1.9
        ((90.0, 92.0), (88.0, 88.2), False),  # 2.0 and 3.8: Student's t of one degree of freedom is 12.7
        ((90.0, 92.0, 91.0), (89.0, 93.0, 88.0), False),
        ((90.0, 90.0), (88.0, 88.0), True),
        ((90.0, 90.0), (90.0, 90.0), False),  # equal
        ((90.0,), (80.0, 80.1), False),  # one run proves nothing
        ((90.0, 90.1), (80.0,), False),
    ],
)
def test_only_a_clear_winner_is_bold(first: Sequence[float], second: Sequence[float], best: bool) -> None:
    store = _Store()
    for method, values in (("leoclr", second), ("moco_v2", first)):  # the winner is not the first row
        for seed, value in enumerate(values):
            store.add(method, seed, {"top1": value, "error": -value})
    table = collect(_spec(Column("a", "linear", "top1"), Column("b", "linear", "error", "lower")), store)
    assert [[cell.best for cell in row] for row in table.cells] == [[False, False], [best, best], [False, False]]
    assert ("**" + f"{statistics.mean(first):.1f}" in render(table, "md")) == best
    assert ("\\textbf{" in render(table, "latex")) == best
    assert ("<strong>" in render(table, "html")) == best
    assert ("*: better than each comparable row" in render(table, "text")) == best


def test_a_cell_that_cannot_be_told_from_the_winner_takes_the_bold_away() -> None:
    store = _full()
    store.runs[store.arms["random seed=0"]["linear"]].metrics["top1"] = (
        120.0  # its mean is the highest, its spread huge
    )
    assert not any(row[0].best for row in collect(_spec(), store).cells)


def test_runs_under_another_protocol_are_not_ranked_against_the_others() -> None:
    store = _full()
    for seed in range(3):  # the winner was evaluated otherwise
        run_id = store.arms[f"leoclr seed={seed}"]["linear"]
        store.runs[run_id] = replace(store.runs[run_id], tags={records.PROTOCOL: "moco 1, changed: epochs"})
    table = collect(_spec(), store)
    assert [row[0].best for row in table.cells] == [False, True, False]
    assert table.apart[0].gaps == (None,)


def test_a_difference_is_taken_over_the_seeds_of_both() -> None:
    store = _full()
    store.add("leoclr", 7, {"top1": 10.0})  # MoCo-v2 has no seed 7
    [gap] = collect(_spec(), store).apart[0].gaps
    assert gap is not None
    assert (gap.n, gap.paired) == (3, True)
    assert gap.mean == pytest.approx(statistics.mean(LEOCLR) - statistics.mean(MOCO))


def test_how_many_runs_a_cell_has_is_always_told() -> None:
    assert "over 3 runs a cell" in render(collect(_spec(), _full()), "text")
    store = _full()
    store.add("leoclr", 3, {"top1": 91.0})
    text = render(collect(_spec(), store), "text")
    assert "(n=4)" in text
    assert text.count("(n=3)") == 2


def test_the_submission_is_the_named_one() -> None:
    store = _full()
    assert collect(_spec(), store, "f0f0").submission == PARENT
    with pytest.raises(NotFound, match="is a stage, not a submission") as caught:
        collect(_spec(), store, "00000001")
    assert caught.value.hint == "its submission is f0f0f0f0"
    with pytest.raises(NotFound, match="was never submitted"):
        collect(_spec(), _Store())


@pytest.mark.parametrize(
    ("form", "file"), [("text", "txt"), ("md", "md"), ("csv", "csv"), ("latex", "tex"), ("html", "html")]
)
def test_the_text_is_the_golden_one(form: Format, file: str) -> None:
    assert render(_mixed(), form) + "\n" == (GOLDEN / f"table.{file}").read_text(encoding="utf-8")


def test_a_wide_table_is_turned_to_fit_the_terminal() -> None:
    columns = [Column(f"a column with a long title {i}", "linear", "top1") for i in range(5)]
    lines = render(collect(_spec(*columns), _full()), "text").splitlines()
    assert lines[2].split("  ")[-1].strip() == "LeOCLR - MoCo"
    assert lines[3].startswith("a column with a long title 0  91.2 +- 1.0")


def test_csv_reads_back_unrounded_with_whole_run_ids() -> None:
    table = _mixed()
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["row"] for row in rows] == [*table.rows, "LeOCLR - MoCo"]
    for row, (cell, *_) in zip(rows, table.cells, strict=False):
        assert float(row["linear top-1"]) == cell.mean
        assert row["linear top-1 runs"].split() == list(cell.run_ids)
    assert [row["AP_75 published"] for row in rows] == ["43.2", "", "unknown", ""]
    [gap] = [apart.gaps[0] for apart in table.apart]
    assert gap is not None
    assert (float(rows[3]["linear top-1"]), float(rows[3]["linear top-1 low"])) == (gap.mean, gap.low)
    assert float(rows[3]["linear top-1 p"]) == gap.p
