"""Where a stage's files are kept besides the node that computes it. By default nowhere: all nodes see one folder.

Where every node has a folder of its own, whoever starts a job on a node installs a `Keeper` first (`use`), which brings
what other nodes left and keeps what this one makes. This package knows no storage: the keeper comes from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol


class Superseded(RuntimeError):
    """Another attempt at this stage began since, on another node: this one must not write any more."""


class Held(Protocol):
    """A stage's folder while its first worker writes it."""

    def keep(self, checkpoint: Path, *, wait: bool = False) -> None:
        """Keep a sealed checkpoint, in the background unless `wait`; a newer one may take its place.

        Raises: Superseded.
        """
        ...


class Keeper(Protocol):
    """Keeps what this node makes, and brings what others made."""

    def stage(self, folder: Path) -> AbstractContextManager[Held]:
        """Bring into `folder` what others left of a stage, keep what is written to it, and wait for that at the end.

        Raises: Superseded.
        """
        ...

    def bring(self, path: Path, *, digest: str = "") -> None:
        """Bring a file or a sealed folder that is not here; where nobody kept it, do nothing.

        `digest`: sha256 of a folder's manifest, in hex; a copy with another one is replaced.
        """
        ...

    def data(self, root: str) -> Path:
        """Return the folder to read a data set from, whose root is a folder or an address."""
        ...


class Here:
    """Keeps nothing elsewhere; a `Keeper`."""

    @contextmanager
    def stage(self, folder: Path) -> Iterator[Held]:
        """Do nothing."""
        yield NOTHING

    def bring(self, path: Path, *, digest: str = "") -> None:
        """Do nothing."""

    def data(self, root: str) -> Path:
        """Return the folder as it is."""
        return Path(root)


class _Held:
    def keep(self, checkpoint: Path, *, wait: bool = False) -> None:
        """Do nothing."""


NOTHING: Held = _Held()
"""Keeps nothing."""

_installed: list[Keeper] = [Here()]


def keeper() -> Keeper:
    """Return the keeper of this process."""
    return _installed[-1]


def is_far() -> bool:
    """Return whether what this node makes is kept elsewhere, as other nodes do not see its folders."""
    return not isinstance(keeper(), Here)


@contextmanager
def use(own: Keeper) -> Iterator[None]:
    """Install a keeper while a job runs in this process."""
    _installed.append(own)
    try:
        yield
    finally:
        _installed.pop()
