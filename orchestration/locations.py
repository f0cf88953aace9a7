"""Where a store says that artifacts lie, before anything is written or read there.

An MLflow server without authentication lets anybody create an experiment whose artifacts lie in `/etc` or `../x`, and
MLflow's client writes wherever the store says. So a folder of this machine is used only if it can be one of MLflow's.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestration.artifacts import local
from orchestration.errors import StoreError

MOST_LOOKED_AT = 1000  # entries; a folder of runs has nothing but runs, so the first ones tell
_OURS = re.compile(r"[0-9a-f]{32}|\d{1,20}|models|traces")  # runs, experiments, what MLflow puts beside them


def require(root: str, *, own: Path, store: str) -> None:
    """Raise StoreError unless an experiment's artifacts lie in our `own` folder, remote, or in a folder of MLflow's."""
    folder = local(root)
    if folder is None or folder.resolve() == own.resolve():
        return
    if not folder.is_absolute() or ".." in folder.parts:
        raise _odd(root, "is no absolute path", store)
    if folder.is_dir():
        for _, entry in zip(range(MOST_LOOKED_AT), folder.iterdir(), strict=False):
            if not _OURS.fullmatch(entry.name):
                raise _odd(root, f"holds `{entry.name}`, which is none of MLflow's", store)


def require_inside(uri: str, root: str) -> None:
    """Raise StoreError where the artifacts of a new run would be written outside of its experiment's location."""
    folder, base = local(uri), local(root)
    if folder is None and base is None:
        return
    if folder is None or base is None or not folder.resolve().is_relative_to(base.resolve()):
        raise StoreError(f"a run's artifacts would go to {uri}, outside of {root}", hint="somebody changed the store")


def _odd(root: str, why: str, store: str) -> StoreError:
    fact = f"its experiment's artifacts are said to lie in {root}, which {why}"
    hint = "did you create this store? `mlflow experiments search` shows it; another MLFLOW_TRACKING_URI is another one"
    return StoreError(fact, place=store, hint=hint)
