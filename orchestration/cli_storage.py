"""The command that removes what nothing needs any more. Like `cli`: parse, call, print."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import cli_cluster, errors

if TYPE_CHECKING:
    from orchestration.garbage import Spare
    from orchestration.storage import Home
    from orchestration.tracking import Store

_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_AGE = re.compile(r"([0-9]{1,6})([hdw])")


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only the list is printed.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Leave what changed since, such as 12h, 7d or 2w.")
    ] = "1d",
    superseded: Annotated[
        bool,
        typer.Option("--superseded", help="Also full states of finished runs that no table shows and nothing needs."),
    ] = False,
    cluster: cli_cluster.Cluster = None,
) -> None:
    """List what nothing needs any more in the home and its mirror; with --yes, remove it.

    What a table shows, what a run stands on, and what an interrupted run goes on from is never among it.
    """
    from orchestration import garbage

    home, store = _place(cluster)
    total = count = left = 0
    for each in garbage.find(home, store, older_s=_age(older_than), superseded=superseded):
        if yes and not each.drop():
            left += 1
            typer.echo(f"{_size(each)}  {each.place}  (left: somebody has taken it up again)")
            continue
        total, count = total + each.bytes, count + 1
        typer.echo(f"{_size(each)}  {each.place}  ({each.why})")
    said = "removed" if yes else "to remove; --yes does it"
    what = f"{count} things, {total / 1e6:,.1f} MB {said}" if count or left else "nothing to remove"
    typer.echo(f"{what}; {left} left" if left else what, err=True)


def _place(cluster: str | None) -> tuple[Home, Store]:
    if cluster is None:
        from orchestration import opening

        return opening.known()
    from orchestration import remote
    from orchestration.cluster import find

    return remote.open_storage(find.load(cluster))


def _age(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise errors.LeoclrOpsError(f"{text!r} is not an age", place="--older-than", hint="such as 12h, 7d or 2w")
    return int(found[1]) * _SECONDS[found[2]]


def _size(spare: Spare) -> str:
    return f"{spare.bytes / 1e6:10,.1f} MB"
