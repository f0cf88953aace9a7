"""Methods: one file each, one line here. See `contract` for what a file defines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leoclr.methods.contract import MethodModule

METHODS: dict[str, str] = {
    "leoclr": "leoclr.methods.leoclr",
    "moco_v2": "leoclr.methods.moco_v2",
    "random": "leoclr.methods.random",
}


def module(name: str) -> MethodModule:
    """Return the module of method `name`, a key of `METHODS`."""
    return importlib.import_module(METHODS[name])
