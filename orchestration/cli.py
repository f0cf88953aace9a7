"""The command line: parse, call, print. Each command imports the heavy things it needs; `cli_files` has those on files.

Data goes to stdout, everything else to stderr. Exit codes are those of `errors`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from orchestration import (
    cli_cluster,
    cli_faults,
    cli_files,
    cli_jobs,
    cli_report,
    cli_runs,
    cli_storage,
    cli_sweep,
    cli_tables,
    errors,
)

if TYPE_CHECKING:
    from orchestration.tracking import Store

CLOSED_PIPE = 141  # 128 + SIGPIPE: `leoclr-ops table x | head` is no mistake
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


class _Commands(TyperGroup):
    """The one place where a user's mistake becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # a Context of the click that typer carries inside
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe is caught
            return result
        except errors.LeoclrOpsError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(errors.render(error), err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            raise typer.Exit(cli_runs.STOPPED) from None
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what Python flushes at its end goes nowhere
            raise typer.Exit(CLOSED_PIPE) from None


app = typer.Typer(
    cls=_Commands,
    name="leoclr-ops",
    help="One YAML file becomes the LeOCLR paper's tables, every cell traced to a run.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes 0.2 s to import
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line with all telemetry off."""
    os.environ |= QUIET  # before anything imports ray or mlflow
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database is no news
    if "_LEOCLR_OPS_COMPLETE" in os.environ:
        gc.disable()  # it ends in half a second, a tenth of which would go into looking for garbage
    app(prog_name="leoclr-ops")


def _complete_compared(incomplete: str) -> list[str]:
    return [name for folder in ("tables", "sweeps", "pipelines") for name in cli_runs.names(folder, incomplete)]


def _compared(store: Store, name: str, column: str | None) -> str:
    """Return the page that compares the runs of `name`; say which they are."""
    from orchestration import compare

    found = compare.find(store, name, column)
    others = f"; --column takes {', '.join(map(repr, found.others))}" if found.others else ""
    typer.echo(f"comparing {found.what}{others}", err=True)
    return compare.fragment(store.experiment, found.run_ids)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"leoclr-ops {version('leoclr-ops')}")
        raise typer.Exit


Pipeline = Annotated[
    str | None,
    typer.Argument(
        metavar="PIPELINE",
        help="A pipeline file, or the name of a shipped one.",
        autocompletion=cli_runs.pipelines,
        show_default=False,
    ),
]
Table = Annotated[
    str | None,
    typer.Option("--table", metavar="TABLE", help="What a table lacks, instead.", autocompletion=cli_tables.complete),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the file: linear.params.epochs=2"),
]
Data = Annotated[list[str] | None, typer.Option("--data", metavar="NAME=DIR", help="Where a data set lies.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run id or its first characters.")]
AnyRun = Annotated[
    str | None, typer.Argument(metavar="RUN", help="A run id or its first characters.", show_default=False)
]


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass  # the options act by themselves: `debug` in _Commands, `version` in its callback


@app.command()
def submit(
    pipeline: Pipeline = None,
    table: Table = None,
    sets: Sets = None,
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    cluster: cli_jobs.On = None,
    detach: cli_jobs.Detach = False,
) -> None:
    """Run what is left to do of a pipeline, or what a table lacks; print the table."""
    cli_jobs.require_possible(cluster, detach=detach, dry_run=dry_run)
    name = _goal(pipeline, table, sets)
    if name is not None and cluster is not None:
        cli_jobs.submit_table(name, cluster, data, detach=detach)
        return
    if name is not None:
        cli_tables.submit(name, data, dry_run=dry_run)
        return
    from orchestration import spec

    if cluster is not None:
        cli_jobs.submit(spec.load(pipeline or "", sets or ()), cluster, data, detach=detach)
        return
    loaded = spec.load(pipeline or "", cli_runs.overrides(sets, data))
    if dry_run:
        cli_runs.plan(loaded)
    else:
        cli_tables.end(*cli_runs.run(loaded), loaded)


@app.command()
def plan(
    pipeline: Pipeline = None,
    table: Table = None,
    sets: Sets = None,
    data: Data = None,
    cluster: cli_cluster.Cluster = None,
    nodes: cli_cluster.Nodes = None,
    speed: cli_cluster.Speed = None,
) -> None:
    """Print what `submit` would do, why, and when; start nothing."""
    name, where = _goal(pipeline, table, sets), cli_cluster.where(cluster, nodes)
    if name is not None:
        cli_tables.plan(name, data, where, speed)
        return
    from orchestration import spec

    cli_runs.plan(spec.load(pipeline or "", cli_runs.overrides(sets, data)), where, speed)


@app.command()
def status(run: AnyRun = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what runs and what ran; with RUN, or the name of a sweep, all of it."""
    if run and cli_sweep.status(run, as_json=as_json):
        return
    from orchestration import look, opening, text

    home, store = opening.known() if run else opening.past()
    looks = look.status(store, home, run) if store else []
    if as_json:
        typer.echo(json.dumps([look.to_json(each) for each in looks], indent=2, allow_nan=False))
    else:
        typer.echo(text.of_status(looks, color=sys.stdout.isatty(), full=run is not None))


@app.command()
def logs(
    run: Run,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=0, help="Only the last LINES.")] = None,
) -> None:
    """Print the log of a stage, or of a submission under way."""
    from orchestration import look, opening

    home, store = opening.known()
    for line in look.logs(store, home, run, lines=lines, follow=follow):
        print(line, flush=follow)


@app.command()
def cancel(run: AnyRun = None) -> None:
    """Stop a running submission, or the sweep of that name; the command that began it continues it."""
    if run and cli_sweep.cancel(run):
        return
    from orchestration import cancel as stopping
    from orchestration import opening

    _, store = opening.known()
    stopped = stopping.cancel(store, run, otherwise=cli_jobs.stopper(store))
    for stage in stopped.stages:
        typer.echo(f"stopped {stage}", err=True)
    killed = f"; {stopped.killed} processes had to be killed" if stopped.killed else ""
    typer.echo(f"stopped run {stopped.run_id[:8]} of {stopped.pipeline}{killed}", err=True)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="5000 by default, or one that is free.")] = None,
    host: Annotated[str, typer.Option(help="127.0.0.1 admits this machine only.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compare the runs of a table, sweep, pipeline or submission.",
            autocompletion=_complete_compared,
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of the table: its title; of a pipeline: a stage.")] = None,
) -> None:
    """Serve MLflow's pages on the runs, until Ctrl-C."""
    from orchestration import opening
    from orchestration import ui as pages

    home, store = opening.known()
    page = _compared(store, compare, column) if compare else ""
    with pages.address(home, host=host, port=port, page=page) as (address, ours):
        typer.echo(address)
        if not no_browser:
            pages.open_browser(address)
        if ours:
            pages.wait()


@app.command()
def doctor(cluster: cli_cluster.Cluster = None) -> None:
    """Check this machine, or a cluster; say what to do where it is not ready."""
    from orchestration import doctor as checks
    from orchestration import text
    from orchestration.storage import Home

    findings = checks.examine(Home.default()) if cluster is None else cli_cluster.examine(cluster)
    typer.echo(text.of_findings(findings, color=sys.stdout.isatty()))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def pipelines() -> None:
    """List the shipped pipelines."""
    from orchestration import spec

    width = max(map(len, names := spec.shipped()))
    for name in names:
        typer.echo(f"{name:{width}}  {spec.load(name).title}")


for command in (cli_jobs.attach, cli_jobs.resume, cli_storage.gc, cli_faults.reconcile, cli_faults.chaos):
    app.command()(command)
for other in (cli_cluster.clusters, cli_sweep.sweep, cli_sweep.sweeps, cli_report.report, cli_report.explain):
    app.command()(other)
app.command("import")(cli_files.import_)
app.command("export")(cli_files.export)
app.add_typer(cli_files.data, name="data")
app.add_typer(cli_tables.app, name="table")


def _goal(pipeline: str | None, table: str | None, sets: list[str] | None) -> str | None:
    """Return the table whose missing cells are meant; None where it is a pipeline."""
    if (pipeline is None) == (table is None):
        raise typer.BadParameter("name a pipeline, or a table by --table", param_hint="PIPELINE")
    if table is not None and sets:
        raise typer.BadParameter("a table's pipelines run as they are", param_hint="--set")
    return table
