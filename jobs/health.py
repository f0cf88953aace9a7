"""Is what a stage has learned still numbers? Asked where it would be kept: at checkpoints and at the end.

A loss can stay finite over weights that are not: behind a batch norm with running statistics, in a branch that this
batch did not use. So no checkpoint is sealed that a resume could not live with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.contract import Job
from jobs.journal import Diverged
from leoclr import checkpoint

DIVERGED = "diverged.json"  # of a trial, in place of a result: the loss became no number

NETWORKS = ("method", "model", "detector")
"""What a work's state calls its one network. A probe with several rates is none: one of them may diverge alone."""


def require_finite(state: Mapping[str, Any]) -> None:
    """Raise Diverged, naming the first of them, when weights in a work's `state` are no finite numbers.

    The device is waited for once.
    """
    if isinstance(inner := state.get("work"), Mapping):  # of a chain: its running work
        state = inner
    named = [(name, each) for key in NETWORKS for name, each in _tensors(state.get(key)) if each.is_floating_point()]
    if not named:
        return
    fine = torch.stack([each.detach().isfinite().all() for _, each in named]).tolist()
    bad = [name for (name, _), good in zip(named, fine, strict=True) if not good]
    if bad:
        fact = f"{len(bad)} of {len(named)} weights are no finite numbers, {bad[0]} first"
        raise Diverged(f"{fact}: lower the learning rate")


@contextmanager
def told(job: Job) -> Iterator[None]:
    """Add to what a divergence says the last checkpoint before it; note that of a trial where its grid looks."""
    try:
        yield
    except Diverged as error:
        if job.trial is not None:  # such a point of its grid loses; it is not run again
            (Path(job.folder) / DIVERGED).write_text(json.dumps({"reason": str(error)}))
            raise
        raise Diverged(f"{error}; {_last_good(Path(job.folder), job.fingerprint)}") from error


def _last_good(folder: Path, fingerprint: str) -> str:
    found = checkpoint.latest(folder / "checkpoints", fingerprint=fingerprint)
    if found is None:
        return "no checkpoint was made before"
    path, at = found
    return f"the last good checkpoint is checkpoints/{path.name}, after step {at.total}"


def _tensors(tree: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Mapping):
        for name, each in tree.items():
            if isinstance(each, Tensor):
                yield str(name), each
            elif isinstance(each, Mapping):
                yield from ((f"{name}.{below}", tensor) for below, tensor in _tensors(each))
