"""The commands on faults: to strike the product on purpose, and to repair what kills left. Like `cli`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Only = Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this fault; can be repeated.")]


def chaos(
    only: Only = None,
    soak: Annotated[bool, typer.Option("--soak", help="One run, and kill after kill at random.")] = False,
    kills: Annotated[int, typer.Option(min=1, max=1000, help="Of a soak.")] = 50,
    seed: Annotated[int, typer.Option(help="Decides where and what is struck.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--home", metavar="DIR", help="Where to work; by default a temporary folder.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Put the result into this page, as Markdown.")
    ] = None,
) -> None:
    """Strike small runs with faults; see whether all that is promised is kept."""
    import tempfile

    from orchestration import stopping
    from orchestration.chaos import lab

    if soak and only:
        raise typer.BadParameter("a soak strikes at random", param_hint="--only")
    if write and (write.is_dir() or not os.access(write if write.exists() else write.parent, os.W_OK)):
        raise typer.BadParameter(f"{write} cannot be written", param_hint="--write")
    lab.require_linux()
    place = folder or Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="chaos-", dir=place))
    with stopping.stoppable():  # so that all that was started is ended
        if soak:
            _soak(work, kills=kills, seed=seed, write=write)
        else:
            _matrix(work, only=only or [], seed=seed, write=write)


def _matrix(work: Path, *, only: list[str], seed: int, write: Path | None) -> None:
    from orchestration.chaos import drive, page

    earlier = page.rows(write.read_text()) if write and only and write.exists() else {}
    outcomes = []
    for outcome in drive.run(drive.choose(only), work, seed=seed, show=_show):
        outcomes.append(outcome)
        typer.echo(page.line(outcome))
    drive.tidy(work)
    typer.echo(page.summary(outcomes))
    if write:
        _put(write, page.MATRIX, page.matrix(outcomes, seed=seed, where=drive.here(), earlier=earlier))
    if not all(outcome.kept for outcome in outcomes):
        raise typer.Exit(1)


def _soak(work: Path, *, kills: int, seed: int, write: Path | None) -> None:
    from orchestration import errors
    from orchestration.chaos import drive, page, soak
    from orchestration.chaos.lab import Broken

    try:
        soaked = soak.run(work, kills=kills, seed=seed, show=_show)
    except Broken as error:
        raise errors.LeoclrOpsError(
            str(error), place=str(work), hint=f"--seed {seed} strikes the same again"
        ) from error
    drive.remove(work)
    text = page.soak(soaked, where=drive.here())
    typer.echo(text)
    if write:
        _put(write, page.SOAK, text)


def _put(path: Path, part: str, content: str) -> None:
    from orchestration.chaos import page

    path.write_text(page.put(path.read_text() if path.exists() else "", part, content))


def _show(text: str) -> None:
    typer.echo(text, err=True)


def reconcile() -> None:
    """Bring MLflow's view, Ray's and our own together after kills; say what was repaired."""
    from orchestration import opening, repair

    home, store = opening.as_it_is()
    count = 0
    for count, line in enumerate(repair.repair(home, store), start=1):  # noqa: B007  # its last value counts
        typer.echo(line)
    typer.echo(f"{count} repair{'' if count == 1 else 's'}", err=True)
