"""The commands on clusters: list profiles, begin one, check one. Like `cli`: parse, call, print."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration import errors

if TYPE_CHECKING:
    from orchestration.doctor import Finding
    from orchestration.schedule import Size


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


Nodes = Annotated[
    str | None, typer.Option("--nodes", metavar="NODES", help="On these: 8x8x64 is 8 nodes of 8 GPUs and 64 CPUs.")
]
Speed = Annotated[
    float | None,
    typer.Option(
        "--speed",
        metavar="PASSES",
        min=1.0,
        help="What never ran takes: ResNet-50 passes a second and GPU; 670 is one V100.",
    ),
]


def where(cluster: str | None, text: str | None) -> tuple[Size, ...]:
    """Return the nodes that a plan is for: those named, those of a profile, or this machine; none where unknown.

    Raises: SpecError where they cannot be read, or where a profile does not say them.
    """
    from orchestration import nodes

    if cluster is not None and text is not None:
        raise typer.BadParameter("a cluster's profile says its nodes", param_hint="--nodes")
    if text is not None:
        return nodes.parse(text, "--nodes")
    if cluster is not None:
        from orchestration.cluster import find

        profile = find.load(cluster)
        if profile.nodes is None:
            hint = "such as `nodes: 4x8x64`: 4 nodes of 8 GPUs and 64 CPUs; or name them by --nodes"
            raise errors.SpecError("the profile does not say how many nodes there are", place=cluster, hint=hint)
        return nodes.parse(profile.nodes, cluster)
    if "RAY_ADDRESS" in os.environ:
        return nodes.parse(os.environ[nodes.NODES], nodes.NODES) if nodes.NODES in os.environ else ()
    from orchestration.prepare import nodes_here

    return nodes_here()


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
