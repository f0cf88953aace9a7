"""The commands that tell where numbers come from: `explain` a run or a cell, and `report` on all. Like `cli`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import cli_runs

if TYPE_CHECKING:
    from orchestration.tracking import Store


def _complete(incomplete: str) -> list[str]:
    return cli_runs.names("pipelines", incomplete) + cli_runs.names("sweeps", incomplete)


def _complete_table(incomplete: str) -> list[str]:
    return cli_runs.names("tables", incomplete)


Submission = Annotated[
    str | None, typer.Option("--submission", metavar="RUN", help="Whose table; the latest by default.")
]
Data = Annotated[list[str] | None, typer.Option("--data", metavar="NAME=DIR", help="Where a data set lies.")]


def explain(
    what: Annotated[
        str, typer.Argument(metavar="RUN|TABLE", help="A run, or the table of a cell.", autocompletion=_complete_table)
    ],
    row: Annotated[str | None, typer.Option("--row", metavar="ROW", help="The cell's row: its title.")] = None,
    column: Annotated[str | None, typer.Option("--column", metavar="COLUMN", help="The cell's column.")] = None,
    submission: Submission = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a pipeline that makes the run again.")] = False,
) -> None:
    """Print what a run or a cell is made of, and the command that makes it again."""
    from orchestration import opening
    from orchestration.report import words
    from orchestration.report.explain import Explainer

    if (row is None) != (column is None):
        raise typer.BadParameter("a cell has a row and a column", param_hint="--row" if column else "--column")
    if as_yaml and row is not None:
        raise typer.BadParameter("name one run", param_hint="--yaml")
    _, store = opening.known()
    title, run_ids = _cell(store, what, (row, column), submission) if row and column else ("", (store.find(what),))
    explainer = Explainer(store, run_ids)
    if as_yaml:
        typer.echo(explainer.pipeline(run_ids[0]).rstrip())
        return
    runs = [explainer.explain(run_id) for run_id in run_ids]
    typer.echo(json.dumps(words.to_json(runs, title), indent=2) if as_json else words.in_words(runs, title))


def _cell(store: Store, name: str, place: tuple[str, str], submission: str | None) -> tuple[str, tuple[str, ...]]:
    """Return what a cell says, and the runs behind it."""
    from orchestration.report.explain import find_cell
    from orchestration.table import read as table_read
    from orchestration.table.collect import collect
    from orchestration.table.grid import said

    table = collect(table_read.load(name), store, submission)
    i, j = find_cell(table, *place)
    cell, column = table.cells[i][j], table.columns[j]
    over = f"over {cell.n} run{'' if cell.n == 1 else 's'}"
    title = f"{name}: {table.rows[i]}, {column.title}: {said(cell, column)} {over}"
    return title, cell.run_ids


def report(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A pipeline, a sweep, or a submission's run; the latest submission by default.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All pipelines and sweeps, the latest of each.")] = False,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="./NAME-report.html by default.")] = None,
    data: Data = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
) -> None:
    """Write a submission or a sweep as one HTML page: tables, figures, images, every run."""
    from orchestration import opening
    from orchestration.report import write

    if name is not None and everything:
        raise typer.BadParameter("name one, or take all", param_hint="--all")
    roots = cli_runs.roots(data)
    home, store = opening.known()
    written = write.report(store, home, name, everything=everything, to=to, roots=roots)
    for note in written.notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(str(written.path))
    if show:
        from orchestration import ui

        ui.open_browser(written.path.absolute().as_uri())
