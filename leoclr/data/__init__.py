"""Data sets: one file each, one line here. A module defines `digest(root)` and `load(root)`, see `contract`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leoclr.data.contract import DataModule

DATASETS: dict[str, str] = {
    "mnist5k": "leoclr.data.mnist5k",
    "digits": "leoclr.data.digits",
    "digit_scenes": "leoclr.data.digit_scenes",
    "folder": "leoclr.data.folder",
}


def module(name: str) -> DataModule:
    """Return the module of data set `name`, a key of `DATASETS`."""
    return importlib.import_module(DATASETS[name])
