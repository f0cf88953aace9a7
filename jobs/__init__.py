"""Ray Train jobs: one stage kind a file, one line here. See `contract` for what a file defines."""

import importlib

from jobs.contract import StageModule

STAGES: dict[str, str] = {
    "pretrain": "jobs.pretrain",
    "linear": "jobs.linear",
    "semi_supervised": "jobs.semi_supervised",
    "transfer": "jobs.transfer",
    "detection": "jobs.detection",
}


def module(kind: str) -> StageModule:
    """Return the module of stage kind `kind`, a key of `STAGES`."""
    return importlib.import_module(STAGES[kind])
