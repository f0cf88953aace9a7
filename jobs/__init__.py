"""Ray Train jobs: one stage kind a file, one line here. See `contract` for what a file defines."""

import importlib

from jobs.contract import Metric, Params, StageModule

STAGES: dict[str, str] = {
    "pretrain": "jobs.pretrain",
    "knn": "jobs.knn",
    "linear": "jobs.linear",
    "semi_supervised": "jobs.semi_supervised",
    "transfer": "jobs.transfer",
    "detection": "jobs.detection",
}


def module(kind: str) -> StageModule:
    """Return the module of stage kind `kind`, a key of `STAGES`."""
    return importlib.import_module(STAGES[kind])


def metrics(kind: str, params: Params) -> tuple[Metric, ...]:
    """Return the numbers that a stage of `kind` ends with under `params`: all of its METRICS, unless it says less."""
    found = module(kind)
    promised: tuple[Metric, ...] = found.metrics(params) if hasattr(found, "metrics") else found.METRICS
    return promised


def recorded(kind: str, params: Params) -> tuple[str, ...]:
    """Return all numbers that a stage of `kind` records under `params`; none where its kind does not tell."""
    found = module(kind)
    return (*(each.name for each in metrics(kind, params)), *found.curves(params)) if hasattr(found, "curves") else ()
