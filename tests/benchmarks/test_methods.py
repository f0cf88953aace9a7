"""The benchmark says of each method whether it is clearly above the control."""

from __future__ import annotations

from benchmarks.methods import behind
from orchestration.table.collect import Cell, Table
from orchestration.table.spec import Column
from orchestration.table.text import render


def cell(mean: float | None, std: float | None) -> Cell:
    return Cell(mean, std, 3 if mean is not None else 0, ("0" * 32,), None, "" if mean is not None else "not run")


def csv_of(rows: dict[str, tuple[Cell, Cell]]) -> str:
    columns = (Column("kNN top-1", "knn", "top1"), Column("linear top-1", "linear", "top1"))
    cells = tuple(rows.values())
    return render(Table("t", tuple(rows), columns, cells, "methods", "f" * 32, "FINISHED", ""), "csv")


def test_a_gap_above_both_spreads_is_enough() -> None:
    control = (cell(70.0, 2.0), cell(80.0, 1.0))
    table = csv_of(
        {
            "clear": (cell(73.0, 1.0), cell(81.1, 0.5)),
            "noisy": (cell(73.0, 3.5), cell(85.0, 0.5)),
            "below": (cell(75.0, 0.5), cell(79.0, 0.5)),
            "random weights (control)": control,
        }
    )
    assert behind(table) == [
        "noisy, kNN top-1: +3.0 from the control, spread 3.5",
        "below, linear top-1: -1.0 from the control, spread 1.0",
    ]


def test_a_missing_number_and_a_single_seed_prove_nothing() -> None:
    control = (cell(70.0, 2.0), cell(80.0, 1.0))
    failed = (cell(None, None), cell(90.0, None))
    assert behind(csv_of({"failed": failed, "control": control})) == [
        "failed, linear top-1: +10.0 from the control, spread inf",
        "failed, kNN top-1: not run",
    ]
