"""The data sets that a report shows images of: only where they are, and are what the runs were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import records
from orchestration.records import StageRun
from orchestration.storage import Home

if TYPE_CHECKING:
    from leoclr.data.contract import DataSet


class Absent(Exception):  # it is a state, and no error to most callers
    """Images cannot be shown; the message says why."""


class Shelf:
    """Opens data sets, each once. Folders come from the user or the home; what a store says is never opened."""

    def __init__(self, home: Home, roots: Mapping[str, Path]) -> None:
        self._home, self._roots = home, roots
        self._known: dict[tuple[str, str], DataSet | Absent] = {}

    def of(self, run: StageRun) -> DataSet:
        """Return the data set that a run was trained on. Raises: Absent."""
        name, digest = str(run.params.get("dataset", "")), run.tags.get(records.DIGEST, "")
        if run.params.get("corrupt", {}).get("policy", "fail") != "fail":
            raise Absent(f"damaged images of {name} are left out, and to find them means to read all")
        if (name, digest) not in self._known:
            self._known[name, digest] = self._open(name, digest)
        found = self._known[name, digest]
        if isinstance(found, Absent):
            raise found
        return found

    def _open(self, name: str, digest: str) -> DataSet | Absent:
        from leoclr import data as datasets  # here: numpy
        from leoclr.data.contract import DataError

        if name not in datasets.DATASETS:
            return Absent("it reads no images" if not name else f"no data set is called {name}")
        module, root = datasets.module(name), self._roots.get(name, self._home.data(name))
        try:
            if module.digest(root) != digest:
                return Absent(f"{name} is not what it was: its digest is another one")
            return module.load(root)
        except (DataError, OSError) as error:
            return Absent(f"{name} is not here ({error}); `--data {name}=DIR` says where it lies")
