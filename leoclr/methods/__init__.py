"""Methods: one file each, one line here. See `contract` for what a file defines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leoclr.methods.contract import MethodModule

METHODS: dict[str, str] = {
    "barlow_twins": "leoclr.methods.barlow_twins",
    "byol": "leoclr.methods.byol",
    "clsa": "leoclr.methods.clsa",
    "dino": "leoclr.methods.dino",
    "leoclr": "leoclr.methods.leoclr",
    "leoclr_end_to_end": "leoclr.methods.leoclr_end_to_end",
    "moco_v2": "leoclr.methods.moco_v2",
    "random": "leoclr.methods.random",
    "simclr": "leoclr.methods.simclr",
    "simsiam": "leoclr.methods.simsiam",
    "spcl": "leoclr.methods.spcl",
    "supervised": "leoclr.methods.supervised",
    "swav": "leoclr.methods.swav",
    "vicreg": "leoclr.methods.vicreg",
}


def module(name: str) -> MethodModule:
    """Return the module of method `name`, a key of `METHODS`."""
    return importlib.import_module(METHODS[name])
