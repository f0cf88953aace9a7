"""What a table's caption says of its differences."""

from __future__ import annotations

from orchestration.table.cell import Apart, Cell, Table
from orchestration.table.grid import lay_out
from orchestration.table.spec import Column
from orchestration.table.statistics import gap


def laid_out(*seeds: tuple[str, str, str]) -> tuple[str, str]:
    """Return caption and notes of two rows whose second has each of these seeds in one column."""
    columns = tuple(Column(f"top-1 {i}", "linear", "top1") for i in range(len(seeds)))
    one = {"0": 90.0, "1": 91.0, "2": 93.0}
    others = [dict(zip(own, (80.0, 82.0, 81.0), strict=True)) for own in seeds]
    cell = Cell(mean=1.0, std=1.0, n=3, run_ids=(), published=None, missing="")
    gaps = tuple(gap(one, other) for other in others)
    rows = ((cell,) * len(seeds),) * 2
    table = Table("t", ("a", "b"), columns, rows, "p", "", "", "", apart=(Apart("a - b", gaps),))
    grid = lay_out(table)
    return "; ".join(grid.caption), "; ".join(words for _, words in grid.notes)


def test_pairs_are_counted_of_what_is_paired() -> None:
    caption, notes = laid_out(("0", "1", "2"), ("0", "1", "7"), ("7", "8", "9"))
    assert "by Student's t over 2 to 3 pairs of seeds" in caption
    assert notes == "fewer than two seeds in common: Welch's t"


def test_no_pairs_are_told_where_none_are() -> None:
    caption, notes = laid_out(("0", "8", "9"))
    assert "Student" not in caption
    assert notes == "fewer than two seeds in common: Welch's t"
