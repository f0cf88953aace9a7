"""The command line: parse, call, print. Each command imports the heavy things it needs; `cli_files` has those on files.

Data goes to stdout, everything else to stderr. Exit codes are those of `errors`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from orchestration import cli_files, errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.preflight import Note
    from orchestration.runner import Outcome
    from orchestration.spec import PipelineSpec
    from orchestration.table_spec import TableSpec
    from orchestration.tracking import Store

STOPPED = 130  # 128 + SIGINT, as shells count
CLOSED_PIPE = 141  # 128 + SIGPIPE: `leoclr-ops table x | head` is no mistake
Format = Literal["text", "md", "csv", "latex"]  # table_text's: importing it here would slow `--help` down
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
            raise typer.Exit(STOPPED) from None
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
    app(prog_name="leoclr-ops")


def _names(folder: str, start: str) -> list[str]:
    """Return the shipped names without importing what reads the files: a Tab key has no patience."""
    found = (path.stem for path in (Path(__file__).parent / folder).glob("*.yaml"))
    return sorted(name for name in found if name.startswith(start))


def _complete_pipeline(incomplete: str) -> list[str]:
    return _names("pipelines", incomplete)


def _complete_table(incomplete: str) -> list[str]:
    return _names("tables", incomplete)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"leoclr-ops {version('leoclr-ops')}")
        raise typer.Exit


Pipeline = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="A pipeline file, or the name of a shipped one.", autocompletion=_complete_pipeline
    ),
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
    pipeline: Pipeline,
    sets: Sets = None,
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run what is left to do of a pipeline; print its table."""
    if dry_run:
        plan(pipeline, sets, data)
        return
    from orchestration import spec

    loaded = spec.load(pipeline, _overrides(sets, data))
    from orchestration import opening, runner  # torch and Ray take seconds: a mistake in the file is told before
    from orchestration.display import display
    from orchestration.prepare import look_over, prepare

    home, store = opening.create()
    planned = prepare(loaded, home, store)
    _warn(look_over(loaded, planned, home))
    with display(sys.stderr) as show:
        outcome = runner.submit(loaded, planned, store, home, show=show)
    _end(outcome, store, loaded)


@app.command()
def plan(pipeline: Pipeline, sets: Sets = None, data: Data = None) -> None:
    """Print what `submit` would do, and why; start nothing."""
    from orchestration import opening, spec, text
    from orchestration.prepare import look_over, prepare

    loaded = spec.load(pipeline, _overrides(sets, data))
    home, store = opening.past()
    planned = prepare(loaded, home, store)
    _warn(look_over(loaded, planned, home))
    typer.echo(text.of_plan(planned, loaded.title, color=sys.stdout.isatty()))


@app.command()
def status(run: AnyRun = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what runs and what ran; with RUN, every stage of it."""
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
    """Stop a running submission; `submit` continues it."""
    from orchestration import cancel as stopping
    from orchestration import opening

    stopped = stopping.cancel(opening.known()[1], run)
    for stage in stopped.stages:
        typer.echo(f"stopped {stage}", err=True)
    killed = f"; {stopped.killed} processes had to be killed" if stopped.killed else ""
    typer.echo(f"stopped run {stopped.run_id[:8]} of {stopped.pipeline}{killed}", err=True)


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A table file or name.", autocompletion=_complete_table)],
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = "text",
    submission: Annotated[str | None, typer.Option(metavar="RUN", help="A submission; the latest by default.")] = None,
) -> None:
    """Print a table from finished runs."""
    from orchestration import opening, table_spec

    _, store = opening.known()
    _print_table(table_spec.load(name), store, submission=submission, form=form)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="5000 by default, or one that is free.")] = None,
    host: Annotated[str, typer.Option(help="127.0.0.1 admits this machine only.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Serve MLflow's pages on the runs, until Ctrl-C."""
    from orchestration import opening
    from orchestration import ui as pages

    home, _ = opening.known()
    with pages.address(home, host=host, port=port) as (address, ours):
        typer.echo(address)
        if not no_browser:
            pages.open_browser(address)
        if ours:
            pages.wait()


@app.command()
def doctor() -> None:
    """Check this machine; say what to do where it is not ready."""
    from orchestration import doctor as checks
    from orchestration import text
    from orchestration.storage import Home

    findings = checks.examine(Home.default())
    typer.echo(text.of_findings(findings, color=sys.stdout.isatty()))
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def pipelines() -> None:
    """List the shipped pipelines."""
    from orchestration import spec

    for name in spec.shipped():
        typer.echo(f"{name:20} {spec.load(name).title}")


app.command("import")(cli_files.import_)
app.command("export")(cli_files.export)
app.add_typer(cli_files.data, name="data")


def _overrides(sets: list[str] | None, data: list[str] | None) -> list[str]:
    """Return `--set` and `--data` in one list; folders of the command line are relative to the current folder."""
    overrides = list(sets or [])
    for entry in data or []:
        name, equals, folder = entry.partition("=")
        if not (name and equals and folder):
            raise typer.BadParameter(f"{entry!r} is not NAME=DIR", param_hint="--data")
        overrides.append(f"data.{name}={json.dumps(str(Path(folder).expanduser().absolute()))}")
    return overrides


def _warn(notes: Sequence[Note]) -> None:
    """Print what an expert would say of a pipeline before it runs."""
    for note in notes:
        typer.echo(f"warning: {note.place}: {note.fact}\n   hint: {note.hint}", err=True)


def _end(outcome: Outcome, store: Store, loaded: PipelineSpec) -> None:
    """Print what came of a submission: its table, and what failed."""
    from orchestration import table_spec

    short = outcome.run_id[:8]
    if outcome.stopped:
        typer.echo(f"stopped run {short}; the same command continues it", err=True)
        raise typer.Exit(STOPPED)
    chosen = table_spec.load(loaded.table) if loaded.table else table_spec.default(loaded)
    _print_table(chosen, store, submission=outcome.run_id)
    if outcome.failed:
        raise errors.StageFailed("\n  ".join(["stages failed:", *outcome.failed]), hint=f"leoclr-ops logs {short}")


def _print_table(chosen: TableSpec, store: Store, *, submission: str | None, form: Format = "text") -> None:
    from orchestration import table_text
    from orchestration.table import collect

    typer.echo(table_text.render(collect(chosen, store, submission), form).rstrip("\n"))
