"""The commands on tables: print, verify, and a table as a goal. Like `cli`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from orchestration import cli_runs, errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.progress import Outcome
    from orchestration.schedule import Size
    from orchestration.spec import PipelineSpec
    from orchestration.table.spec import TableSpec
    from orchestration.tracking import Store

Format = Literal["text", "md", "csv", "latex", "html"]  # table_text's: importing it here would slow `--help` down
SHOW = "show"


class _Tables(TyperGroup):
    """`leoclr-ops table NAME` is `leoclr-ops table show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # a Context of the click that typer carries inside
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [SHOW, *args]
        return list(super().parse_args(ctx, args))


def complete(incomplete: str) -> list[str]:
    """Return the shipped tables that begin so."""
    return cli_runs.names("tables", incomplete)


app = typer.Typer(
    cls=_Tables,
    help="Print a table from finished runs, or verify every number of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A table file or name.", autocompletion=complete)]
Submission = Annotated[
    str | None, typer.Option(metavar="RUN", help="A submission; by default the latest, or all where runs are selected.")
]


@app.command(SHOW)
def show(
    name: Name,
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = "text",
    submission: Submission = None,
) -> None:
    """Print a table from finished runs; `table NAME` does the same."""
    from orchestration import opening
    from orchestration.table import read as table_read

    chosen = table_read.load(name)
    store = (
        opening.known()[1] if chosen.pipeline or submission else opening.past()[1]
    )  # without runs: what is published
    print_table(chosen, store, submission=submission, form=form)


@app.command()
def verify(name: Name, submission: Submission = None) -> None:
    """Check every number of a table from the data's digest to the metric; a line a defect."""
    from orchestration import opening
    from orchestration.table import read as table_read
    from orchestration.table import verify as table_verify
    from orchestration.table.collect import collect

    chosen = table_read.load(name)
    _, store = opening.known()
    table = collect(chosen, store, submission)
    count = 0
    for count, defect in enumerate(table_verify.defects(table, store), start=1):  # noqa: B007  # its last value counts
        typer.echo(defect)
    if count:
        raise errors.StoreError(f"{count} defect{'' if count == 1 else 's'}", place=f"table {name}")
    runs = {run_id for row in table.cells for cell in row for run_id in cell.run_ids}
    typer.echo(f"table {name}: {len(runs)} runs and all that they stand on are what they say they are", err=True)


def plan(name: str, data: list[str] | None, nodes: Sequence[Size] = (), speed: float | None = None) -> None:
    """Print the cells that a table lacks, what would fill them, and when on `nodes`."""
    from orchestration import forecast, opening
    from orchestration.table import goal as table_goal
    from orchestration.table import read as table_read

    chosen = table_read.load(name)
    _, store = opening.past()
    goal = table_goal.find(chosen, store, cli_runs.overrides(None, data))
    typer.echo(table_goal.in_words(goal))
    if nodes and (todo := table_goal.tasks(goal, nodes, speed=speed)):
        typer.echo(f"\n{forecast.in_text(todo, nodes)}")


def submit(name: str, data: list[str] | None, *, dry_run: bool) -> None:
    """Run the stages that fill the missing cells of a table; print it."""
    from orchestration import opening
    from orchestration.table import goal as table_goal
    from orchestration.table import read as table_read

    chosen = table_read.load(name)
    goal = table_goal.find(chosen, opening.past()[1], cli_runs.overrides(None, data))
    failed: list[str] = []
    for part in goal.pipelines:
        if dry_run:
            cli_runs.plan(part)
            continue
        outcome, _ = cli_runs.run(part)
        stop(outcome)
        failed += outcome.failed
    if not dry_run:
        print_table(chosen, opening.create()[1])
    fail(failed, hint="leoclr-ops status")


def end(outcome: Outcome, store: Store, loaded: PipelineSpec) -> None:
    """Print what came of a submission: its table, and what failed."""
    from orchestration.table import read as table_read
    from orchestration.table import spec as table_spec

    stop(outcome)
    chosen = table_read.load(loaded.table) if loaded.table else table_spec.default(loaded)
    print_table(chosen, store, submission=outcome.run_id)
    fail(outcome.failed, hint=f"leoclr-ops logs {outcome.run_id[:8]}")


def stop(outcome: Outcome) -> None:
    """Leave when the user stopped a submission."""
    if outcome.stopped:
        typer.echo(f"stopped run {outcome.run_id[:8]}; the same command continues it", err=True)
        raise typer.Exit(cli_runs.STOPPED)


def fail(stages: list[str] | tuple[str, ...], *, hint: str) -> None:
    """Leave when stages failed."""
    if stages:
        raise errors.StageFailed("\n  ".join(["stages failed:", *stages]), hint=hint)


def print_table(
    chosen: TableSpec, store: Store | None, *, submission: str | None = None, form: Format = "text"
) -> None:
    """Print a table as it stands."""
    from orchestration.table import text as table_text
    from orchestration.table.collect import collect

    typer.echo(table_text.render(collect(chosen, store, submission), form).rstrip("\n"))
