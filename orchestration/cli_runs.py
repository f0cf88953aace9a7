"""What several commands do with a pipeline: its overrides, its plan, running it. Like `cli`: parse, call, print."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.preflight import Note
    from orchestration.progress import Outcome
    from orchestration.schedule import Size
    from orchestration.spec import PipelineSpec
    from orchestration.tracking import Store

LOOK_S = 1.0  # between two looks for the run of another process
STOPPED = 130  # the exit code after Ctrl-C: 128 + SIGINT, as shells count


def names(folder: str, start: str) -> list[str]:
    """Return the shipped names without importing what reads the files: a Tab key has no patience."""
    found = (path.stem for path in (Path(__file__).parent / folder).glob("*.yaml"))
    return sorted(name for name in found if name.startswith(start))


def pipelines(start: str) -> list[str]:
    """Return the shipped pipelines that begin so."""
    return names("pipelines", start)


def overrides(sets: list[str] | None, data: list[str] | None) -> list[str]:
    """Return `--set` and `--data` in one list; folders of the command line are relative to the current folder."""
    from orchestration.storage import address

    places = {name: address(root) or str(root) for name, root in roots(data).items()}
    return [*(sets or []), *(f"data.{name}={json.dumps(place)}" for name, place in places.items())]


def roots(data: list[str] | None) -> dict[str, Path]:
    """Return the absolute folders of `--data`, by data set."""
    from orchestration.storage import root_of

    found = {}
    for entry in data or []:
        name, equals, folder = entry.partition("=")
        if not (name and equals and folder):
            raise typer.BadParameter(f"{entry!r} is not NAME=DIR", param_hint="--data")
        found[name] = root_of(folder, Path.cwd())
    return found


def run(loaded: PipelineSpec, resume: str | None = None) -> tuple[Outcome, Store]:
    """Run what is left to do of a pipeline, or show it where another process does that.

    `resume` is the submission's run to continue. Where the other process is lost, this one goes on in its place. A job
    of a cluster shows nothing: whoever sent it waits for a run of its own.
    Raises: LeoclrOpsError in a job, where another process lives that does it.
    """
    # Here, as torch and Ray take seconds: a mistake in the file is told before.
    from orchestration import attach, opening, runner
    from orchestration.cluster import job
    from orchestration.display import display
    from orchestration.prepare import look_over, prepare
    from orchestration.storage import Busy

    home, store = opening.create()
    planned = prepare(loaded, home, store)
    warn(look_over(loaded, planned, home))
    sent = job.current()
    resume = resume or (sent.run if sent else None)
    while True:
        try:
            with display(sys.stderr) as show:
                return runner.submit(loaded, planned, store, home, show=show, resume=resume), store
        except Busy:
            run_id = attach.running(store, planned.fingerprint)
        if run_id is None:  # it opens its run, or has just closed it
            time.sleep(LOOK_S)
        elif sent:
            _refuse_twin(store, run_id, sure=not home.mirror)
        else:
            tell(f"run {run_id[:8]} does the same already: this shows it")
            outcome = watch(store, run_id)
            if not attach.is_lost(store, run_id):
                return outcome, store
            tell(f"run {run_id[:8]} was cut off: going on here")
        planned = prepare(loaded, home, store)


def _refuse_twin(store: Store, run_id: str, *, sure: bool) -> None:
    """Raise the error of a job whose pipeline run `run_id` does; not `sure`: only once that has shown that it lives.

    A lock file is freed with its process; in a bucket, a lease outlives a lost head by a minute.
    """
    from orchestration import attach, errors

    seen = store.submission(run_id)
    if seen is not None and seen.status == "RUNNING" and (sure or attach.gives_sign(store, seen)):
        hint = f"leoclr-ops attach {run_id[:8]}"
        raise errors.LeoclrOpsError(f"run {run_id[:8]} does the same already", hint=hint)


def watch(store: Store, run_id: str) -> Outcome:
    """Show what another process runs until it ends; Ctrl-C leaves it running."""
    from orchestration import attach
    from orchestration.display import display

    try:
        with display(sys.stderr) as show:
            return attach.follow(store, run_id, show)
    except KeyboardInterrupt:
        raise leave(run_id[:8]) from None


def leave(reference: str) -> typer.Exit:
    """Leave what runs elsewhere alone."""
    tell(f"detached; it goes on. {ways_back(reference)}")
    return typer.Exit(STOPPED)


def ways_back(reference: str) -> str:
    """Return how to come back to what runs elsewhere."""
    return f"`leoclr-ops attach {reference}` shows it again, `leoclr-ops cancel {reference}` stops it"


def tell(line: str) -> None:
    """Say something that is no result."""
    typer.echo(line, err=True)


def plan(loaded: PipelineSpec, nodes: Sequence[Size] = (), speed: float | None = None) -> None:
    """Print what `run` would do, and why; and when on `nodes`, by `speed` where no earlier run tells."""
    from orchestration import forecast, opening, text
    from orchestration.prepare import look_over, prepare

    home, store = opening.past()
    planned = prepare(loaded, home, store)
    warn(look_over(loaded, planned, home))
    typer.echo(text.of_plan(planned, loaded.title, color=sys.stdout.isatty()))
    if nodes and (todo := forecast.tasks(planned, nodes, speed=speed)):
        typer.echo(f"\n{forecast.in_text(todo, nodes)}")


def warn(notes: Sequence[Note]) -> None:
    """Print what an expert would say of a pipeline before it runs."""
    for note in notes:
        typer.echo(f"warning: {note.place}: {note.fact}\n   hint: {note.hint}", err=True)
