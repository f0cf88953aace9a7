"""The commands on sweeps. Like `cli`: parse, call, print; each imports the heavy things it needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import cli_jobs, cli_runs, errors

if TYPE_CHECKING:
    from orchestration.storage import Home
    from orchestration.sweep.drive import SweepOutcome
    from orchestration.sweep.ledger import Ledger
    from orchestration.sweep.spec import SweepSpec
    from orchestration.tracking import Store


def _complete(incomplete: str) -> list[str]:
    return cli_runs.names("sweeps", incomplete)


Name = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped one.", autocompletion=_complete)
]
Base = Annotated[str | None, typer.Option("--base", metavar="PIPELINE", help="Another pipeline to make trials of.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the sweep or its base.")
]
Data = Annotated[list[str] | None, typer.Option("--data", metavar="NAME=DIR", help="Where a data set lies.")]


def sweep(
    name: Name,
    base: Base = None,
    sets: Sets = None,
    data: Data = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at once; what fits by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials and stop.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin another one, instead of going on with the last.")] = False,
    cluster: cli_jobs.On = None,
    detach: cli_jobs.Detach = False,
) -> None:
    """Run the trials of a sweep that are left; print its table, write its plots."""
    from orchestration.sweep import spec as sweep_spec

    cli_jobs.require_possible(cluster, detach=detach, dry_run=dry_run)
    at_once = [] if concurrency is None else [f"concurrency={concurrency}"]
    if cluster is not None:
        there = sweep_spec.load(name, base=base, overrides=[*(sets or []), *at_once])
        cli_jobs.sweep(there, cluster, data, new=new, detach=detach)
        return
    loaded = sweep_spec.load(name, base=base, overrides=cli_runs.overrides(sets, data) + at_once)
    from orchestration import opening
    from orchestration.display import display
    from orchestration.sweep import drive as sweep_drive
    from orchestration.sweep import plan as sweep_plan
    from orchestration.sweep import search as sweep_search
    from orchestration.sweep.ledger import KEPT

    home, store = opening.create()
    prepared = sweep_plan.make(loaded, home, store, new=new, dry=dry_run)
    cli_runs.warn(prepared.notes)
    if dry_run:
        entries = prepared.ledger.entries.values()
        begun = [entry for entry in entries if entry.state not in KEPT]
        typer.echo(sweep_plan.in_words(prepared, sweep_search.begin(loaded, entries, again=begun)))
        return
    with display(sys.stderr) as show:
        outcome = sweep_drive.run(loaded, prepared.ledger, prepared.planner, store=store, home=home, show=show)
    _end(loaded, prepared.ledger, outcome, store)


def sweeps() -> None:
    """List the shipped sweeps."""
    from orchestration.sweep import spec as sweep_spec

    for name in sweep_spec.shipped():
        typer.echo(f"{name:24} {sweep_spec.load(name).title}")


def status(name: str, *, as_json: bool) -> bool:
    """Print how far the sweep of this name is; False where there is none."""
    if (home := _home_of(name)) is None:
        return False
    from orchestration import opening
    from orchestration.sweep import ledger as sweep_ledger
    from orchestration.sweep import look as sweep_look

    opening.past()  # what nobody runs any more is ended first
    seen = sweep_look.look(sweep_ledger.Ledger(sweep_ledger.folder_of(home, name)))
    typer.echo(
        json.dumps(sweep_look.to_json(seen), indent=2, allow_nan=False) if as_json else sweep_look.in_words(seen)
    )
    return True


def cancel(name: str) -> bool:
    """Stop the sweep of this name; False where there is none."""
    if (home := _home_of(name)) is None:
        return False
    from orchestration import opening
    from orchestration.sweep import ledger as sweep_ledger
    from orchestration.sweep import look as sweep_look

    _, store = opening.known()
    killed = sweep_look.cancel(store, name, sweep_ledger.Ledger(sweep_ledger.folder_of(home, name)))
    after = f"; {killed} processes had to be killed" if killed else ""
    typer.echo(f"stopped sweep {name}; the same command continues it{after}", err=True)
    return True


def _home_of(name: str) -> Home | None:
    """Return the home, if a sweep of this name ran there; None for what can be no name, too."""
    from orchestration.storage import Home

    home = Home.default()
    try:
        if not (home.path / "sweeps" / name).is_dir():
            return None
    except OSError:  # too long, or in a folder that nobody may enter
        return None
    from orchestration.spec import NAME  # it takes a third of a second: only where there is something

    return home if NAME.fullmatch(name) else None


def _end(loaded: SweepSpec, ledger: Ledger, outcome: SweepOutcome, store: Store) -> None:
    """Print the table, write table and plots, and say where; tell what failed."""
    if outcome.stopped:
        typer.echo(f"stopped sweep {loaded.name}; the same command continues it", err=True)
        raise typer.Exit(cli_runs.STOPPED)
    from orchestration.figure import write as figure
    from orchestration.storage import write_atomic
    from orchestration.sweep import table as sweep_table
    from orchestration.sweep import view as sweep_view

    found, folder = sweep_view.result(loaded, ledger.entries), Path(f"sweep-{loaded.name}")
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "table.md", sweep_table.markdown(found) + "\n")
    write_atomic(folder / "trials.csv", sweep_table.csv(found))
    files = [folder / "table.md", folder / "trials.csv", *figure.write(found, folder)]
    if outcome.run_id:
        store.log_files(outcome.run_id, files)
        more = "And more lines: `table.md` among its artifacts."
        store.describe(outcome.run_id, sweep_table.markdown(found), more=more)
    typer.echo(sweep_table.text(found).rstrip("\n"))
    typer.echo(f"table and plots are in {folder}/: {', '.join(file.name for file in files)}", err=True)
    if outcome.over:
        typer.echo(f"{outcome.over}; with a larger `budget.hours` the same command goes on", err=True)
    if outcome.failed:
        hint = f"leoclr-ops status {loaded.name}; the same command tries them again"
        raise errors.StageFailed("\n  ".join(["trials failed:", *outcome.failed]), hint=hint)
