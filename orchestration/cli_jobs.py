"""The commands on what runs elsewhere: send, attach, resume. Like `cli`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import cli_cluster, cli_runs, cli_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestration.cluster.profile import ClusterProfile
    from orchestration.cluster.send import Parcel
    from orchestration.records import Submission
    from orchestration.spec import PipelineSpec
    from orchestration.sweep.spec import SweepSpec
    from orchestration.tracking import Store

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run id, its first characters, or the id of a job.")]
On = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Run on the cluster of that profile, or at that path.",
        autocompletion=cli_cluster.complete,
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="With --cluster: return once it runs there.")]


def attach(run: Run) -> None:
    """Show a submission that runs elsewhere as `submit` does, until it ends; Ctrl-C leaves it running."""
    from orchestration import attach as attaching
    from orchestration import opening, remote

    _, store = opening.known()
    run_id = attaching.find(store, run)
    if store.sweep(run_id):
        _show_sweep(store, run_id)
        return
    outcome = cli_runs.watch(store, run_id)
    if (ended := store.submission(run_id)) is not None:
        cli_tables.end(outcome, store, remote.recorded(store, ended))


def resume(
    run: Run,
    cluster: On = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Other resources: STAGE.resources.workers=2")
    ] = None,
    detach: Detach = False,
    kept_profile: Annotated[
        bool, typer.Option("--kept-profile", help="Use the profile that the tracking store keeps with the run.")
    ] = False,
) -> None:
    """Continue a stopped or failed submission in its own run: here, on its cluster, or on another one."""
    from orchestration import attach as attaching
    from orchestration import opening, remote

    _, store = opening.known()
    stopped = remote.await_silence(store, attaching.find(store, run), cli_runs.tell)
    loaded = remote.recorded(store, stopped, sets or ())
    profile = remote.profile_for(store, stopped, cluster=cluster, kept=kept_profile)
    if profile is None:
        require_possible(None, detach=detach)
        cli_tables.end(*cli_runs.run(loaded, resume=stopped.run_id), loaded)
        return
    there = remote.placed(loaded, profile, {})
    _, theirs = remote.open_store(profile)
    remote.require_known(profile, theirs, stopped, store)
    if run_id := _send(profile, theirs, remote.parcel(there, stopped.run_id), detach=detach):
        cli_tables.end(cli_runs.watch(theirs, run_id), theirs, there)


def submit(loaded: PipelineSpec, cluster: str, data: list[str] | None, *, detach: bool) -> None:
    """Send a pipeline to a cluster, and watch it there."""
    from orchestration import remote
    from orchestration.cluster import find

    profile = find.load(cluster)
    there = remote.placed(loaded, profile, _roots(data))
    cli_runs.warn(remote.look_over(there))
    _, store = remote.open_store(profile)
    if run_id := _send(profile, store, remote.parcel(there), detach=detach):
        cli_tables.end(cli_runs.watch(store, run_id), store, loaded)


def submit_table(name: str, cluster: str, data: list[str] | None, *, detach: bool) -> None:
    """Send to a cluster what a table lacks, pipeline by pipeline."""
    from orchestration import remote
    from orchestration.cluster import find
    from orchestration.table import goal as table_goal
    from orchestration.table import read as table_read

    chosen, profile = table_read.load(name), find.load(cluster)
    _, store = remote.open_store(profile)
    parts = [remote.placed(part, profile, _roots(data)) for part in table_goal.find(chosen, store).pipelines]
    failed: list[str] = []
    for part in parts:
        if run_id := _send(profile, store, remote.parcel(part), detach=detach):
            outcome = cli_runs.watch(store, run_id)
            cli_tables.stop(outcome)
            failed += outcome.failed
    if not detach:
        cli_tables.print_table(chosen, store)
    cli_tables.fail(failed, hint="leoclr-ops status")


def sweep(loaded: SweepSpec, cluster: str, data: list[str] | None, *, new: bool, detach: bool) -> None:
    """Send a sweep to a cluster, and watch it there."""
    from orchestration import remote, remote_sweep
    from orchestration.cluster import find

    profile = find.load(cluster)
    what = remote_sweep.parcel(loaded, profile, _roots(data), new=new)
    _, store = remote.open_store(profile)
    if run_id := _send(profile, store, what, detach=detach):
        _show_sweep(store, run_id)


def stopper(store: Store) -> Callable[[Submission], bool]:
    """Return what stops a submission through its cluster, where its driver does not answer."""

    def stop(submission: Submission) -> bool:
        from orchestration import remote

        return remote.stop(store, submission)

    return stop


def require_possible(cluster: str | None, *, detach: bool, dry_run: bool = False) -> None:
    """Refuse to detach from what runs in this process, and to plan for data that lies elsewhere."""
    if detach and cluster is None:
        raise typer.BadParameter("what runs in this process ends with it: name a --cluster", param_hint="--detach")
    if dry_run and cluster is not None:
        raise typer.BadParameter("a plan is made where the data lies: leave --cluster away", param_hint="--dry-run")


def _send(profile: ClusterProfile, store: Store, what: Parcel, *, detach: bool) -> str | None:
    """Send it and return the run that it opens; None where it is left alone."""
    from orchestration import remote

    sent = remote.send(profile, what)
    cli_runs.tell(f"{'sent to' if sent.is_new else 'found on'} {profile.name} as job {sent.id}")
    cli_runs.tell(f"from anywhere: export MLFLOW_TRACKING_URI={store.uri}")
    try:
        run_id = remote.await_run(
            profile, store, sent.id, tell=cli_runs.tell, most_s=remote.DETACH_S if detach else None
        )
    except KeyboardInterrupt:
        raise cli_runs.leave(sent.id) from None
    if detach or run_id is None:
        cli_runs.tell(cli_runs.ways_back(sent.id))
        typer.echo(run_id or sent.id)
        return None
    return run_id


def _show_sweep(store: Store, run_id: str) -> None:
    """Show a sweep until it ends; print the table that it left, and what failed."""
    from orchestration import attach as attaching

    seen = store.sweep(run_id)
    earlier = attaching.table(store, run_id) if seen and seen.status == "RUNNING" else None
    outcome = cli_runs.watch(store, run_id)
    if outcome.stopped:
        cli_runs.tell(f"stopped sweep run {outcome.run_id[:8]}; the same command continues it")
        raise typer.Exit(cli_runs.STOPPED)
    if (table := attaching.await_table(store, run_id, earlier)) is None:
        cli_runs.tell(f"sweep run {run_id[:8]} ended and left no table; the same command writes it")
    else:
        typer.echo(table.rstrip("\n"))
    cli_tables.fail(outcome.failed, hint=f"leoclr-ops attach {outcome.run_id[:8]}")


def _roots(data: list[str] | None) -> dict[str, Path]:
    """Return the folders of `--data` on a cluster's nodes, by data set."""
    found = {}
    for entry in data or []:
        name, _, folder = entry.partition("=")
        if not (name and folder.startswith(("/", "s3://"))):  # `~` and relative ones would be this machine's
            fact = f"{entry!r} is not NAME=/DIR, with an absolute folder of the nodes, or NAME=s3://BUCKET/PREFIX"
            raise typer.BadParameter(fact, param_hint="--data")
        found[name] = Path(folder)
    return found
