"""Cells against the statistics module, why a cell is empty, when a number is bold, the texts against golden files."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestration.errors import LeoclrOpsError, NotFound, SpecError
from orchestration.records import StageRun, Status, Submission
from orchestration.table import Table, collect
from orchestration.table_spec import Column, Row, TableSpec, load
from orchestration.table_text import Format, render

GOLDEN = Path(__file__).parents[1] / "golden"
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

    def submissions(self, pipeline: str | None = None) -> list[Submission]:
        if not self.labels:
            return []
        return [Submission(PARENT, "quick", "", "FINISHED", 0, 0, 0, self.arms, self.labels, "host", 1, 0.0, 0)]

    def stage_runs(self, run_ids: Sequence[str]) -> dict[str, StageRun]:
        return {run_id: self.runs[run_id] for run_id in run_ids}

    def find(self, reference: str) -> str:
        return next(run_id for run_id in (PARENT, *self.runs) if run_id.startswith(reference))


def _spec(*columns: Column, published: dict[tuple[str, str], float] | None = None) -> TableSpec:
    rows = tuple(
        Row(title, {"method": label})
        for label, title in (("leoclr", "LeOCLR"), ("moco_v2", "MoCo_v2 & co"), ("random", "random | control"))
    )
    columns = columns or (Column("linear top-1", "linear", "top1"),)
    return TableSpec("A table, 100 %", "quick", rows, columns, published or {}, "arXiv:0000.00000" if published else "")


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
    return collect(_spec(*columns, published={("LeOCLR", "AP_75"): 43.2}), store)


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
        ((90.0, 92.0), (88.0, 88.2), True),  # gap 2.9, larger deviation 1.41
        ((90.0, 92.0), (89.0, 90.5), False),  # gap 1.25
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


def test_the_submission_is_the_named_one() -> None:
    store = _full()
    assert collect(_spec(), store, "f0f0").submission == PARENT
    with pytest.raises(NotFound, match="is a stage, not a submission") as caught:
        collect(_spec(), store, "00000001")
    assert caught.value.hint == "its submission is f0f0f0f0"
    with pytest.raises(NotFound, match="was never submitted"):
        collect(_spec(), _Store())


@pytest.mark.parametrize(("form", "file"), [("text", "txt"), ("md", "md"), ("csv", "csv"), ("latex", "tex")])
def test_the_text_is_the_golden_one(form: Format, file: str) -> None:
    assert render(_mixed(), form) + "\n" == (GOLDEN / f"table.{file}").read_text(encoding="utf-8")


def test_a_wide_table_is_turned_to_fit_the_terminal() -> None:
    columns = [Column(f"a column with a long title {i}", "linear", "top1") for i in range(5)]
    lines = render(collect(_spec(*columns), _full()), "text").splitlines()
    assert lines[2].split("  ")[-1].strip() == "random | control"
    assert lines[3].startswith("a column with a long title 0  91.2 +- 1.0")


def test_csv_reads_back_unrounded_with_whole_run_ids() -> None:
    table = _mixed()
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert [row["row"] for row in rows] == list(table.rows)
    for row, (cell, *_) in zip(rows, table.cells, strict=True):
        assert float(row["linear top-1"]) == cell.mean
        assert row["linear top-1 runs"].split() == list(cell.run_ids)


GOOD = "{title: t, pipeline: p, rows: {by: method, titles: {a: A}}, columns: [{title: c, stage: s, metric: m}]}"


@pytest.mark.parametrize(
    ("old", "new", "place", "fact", "hint"),
    [
        ("title: t", "titel: t", "titel", "no key here is called `titel`", "did you mean `title`?"),
        ("pipeline: p, ", "", "", "`pipeline` is missing", ""),
        ("by: method, ", "", "rows", "`by` is missing", ""),
        ("titles: {a: A}", "titles: {}", "rows.titles", "expected at least one row", "title by label"),
        ("titles: {a: A}", "titles: {a: A, b: A}", "rows.titles", "two are called `A`", ""),
        ("metric: m", "metrics: m", "columns.0.metrics", "no key here is called `metrics`", "did you mean `metric`?"),
        ("metric: m", "metric: 3", "columns.0.metric", "expected one line of text, got `3`", ""),
        ("metric: m", "metric: m, better: more", "columns.0.better", "expected `higher` or `lower`", ""),
        ("metric: m", "metric: m, decimals: 9", "columns.0.decimals", "expected 0 to 6, got `9`", ""),
        ("[{title: c, stage: s, metric: m}]", "[]", "columns", "expected a list of columns", ""),
        ("title: t", "title: t, published: {values: {}}", "published", "`source` is missing", ""),
        (
            "title: t",
            "title: t, published: {source: s, values: {aa: {c: 1}}}",
            "published.values.aa",
            "no row here is called `aa`",
            "",
        ),
        (
            "title: t",
            "title: t, published: {source: s, values: {a: {c: x}}}",
            "published.values.a.c",
            "expected a number, got `x`",
            "",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, place: str, fact: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(GOOD)
    assert load(str(file)).rows == (Row("A", {"method": "a"}),)
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        load(str(file))
    assert caught.value.place == (f"{file}: {place}" if place else str(file))
    assert caught.value.fact.startswith(fact)
    assert caught.value.hint.startswith(hint)


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(LeoclrOpsError, match="no table is called `quikstart`") as caught:
        load("quikstart")
    assert caught.value.hint == "did you mean `quickstart`?"
