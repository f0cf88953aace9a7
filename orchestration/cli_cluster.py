"""The commands on clusters: list profiles, begin one, check one. Like `cli`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import errors

if TYPE_CHECKING:
    from orchestration.doctor import Finding


def complete(incomplete: str) -> list[str]:
    """Return the names of profiles without reading them."""
    from orchestration.cluster import folders

    return [name for name in folders.known() if name.startswith(incomplete)]


Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="A cluster of that profile, or at that path, instead.",
        autocompletion=complete,
    ),
]


def clusters(
    init: Annotated[
        str | None, typer.Option("--init", metavar="NAME", help="Copy this example to your own profiles, to change.")
    ] = None,
) -> None:
    """List the known cluster profiles, your own and the examples."""
    from orchestration.cluster import find, folders

    if init is not None:
        typer.echo(str(find.copy(init)))
        return
    own = folders.user()
    for name, path in folders.known().items():
        try:
            profile = find.load(name)
            title, address = profile.title, profile.address
        except errors.LeoclrOpsError as error:  # one damaged file hides no other
            title, address = f"cannot be used: {error}", ""
        typer.echo(f"{name:16} {'yours' if path.parent == own else 'example':8} {address:28} {title}".rstrip())
    typer.echo(f"your own lie in {own}; `clusters --init NAME` copies an example there", err=True)


def examine(name: str) -> list[Finding]:
    """Return what the doctor finds of the cluster of this name."""
    from orchestration.cluster import checks, find

    return checks.examine(find.load(name))
