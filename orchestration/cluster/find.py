"""Which profile is meant by a name: the user's own, then an example; or by a path."""

from __future__ import annotations

from pathlib import Path

from orchestration.cluster import folders, profile
from orchestration.cluster.profile import ClusterProfile
from orchestration.document import show
from orchestration.errors import LeoclrOpsError, NotFound, did_you_mean
from orchestration.storage import expanded, write_atomic


def load(reference: str) -> ClusterProfile:
    """Return the profile of this name, or at this path: one with a slash, or that ends in .yaml or .yml.

    Raises: SpecError for what is wrong in it; NotFound where there is none.
    """
    known = folders.known()
    if "/" not in reference and not reference.endswith((".yaml", ".yml")):
        if reference in known:
            return profile.load(known[reference], str(known[reference]))
        hint = f"{did_you_mean(reference, known)} Your own lie in {folders.user()}."
        raise NotFound(f"no cluster is called {show(reference)}", hint=hint)
    path = expanded(reference, "--cluster")
    try:
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # too long a name, a null byte
        raise NotFound(f"{show(reference)} is not a path: {getattr(error, 'strerror', None) or error}") from None
    if not is_file:
        raise NotFound(f"there is no file {show(reference)}", hint=did_you_mean(path.stem, known))
    return profile.load(path.absolute(), reference)


def copy(name: str) -> Path:
    """Copy an example to the user's folder, for the user to change; return where it lies.

    Raises: NotFound for no example of that name; LeoclrOpsError when there is a profile already.
    """
    examples = folders.shipped()
    if name not in examples:
        raise NotFound(f"no example is called {show(name)}", hint=did_you_mean(name, examples))
    target = folders.user() / f"{name}.yaml"
    if target.exists():
        raise LeoclrOpsError("there is a profile already", place=str(target), hint="change it, or move it away first")
    write_atomic(target, examples[name].read_text(encoding="utf-8"))
    return target
