"""The command that makes a run again: of the shipped pipeline where that still says the same, else of a file.

Which of both it is, is tried: the command's pipeline is loaded, and its params must be those that the run records. Its
fingerprint is then the run's, where data and results version are the same.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jobs import imported
from orchestration import records, spec
from orchestration.document import Tree, dump
from orchestration.errors import LeoclrOpsError
from orchestration.fingerprint import digest_of
from orchestration.records import StageRun
from orchestration.report.origin import Origin, key
from orchestration.spec import Arm, PipelineSpec
from orchestration.table.cell import SHORT
from orchestration.table.chain import Chain

PROGRAM = "leoclr-ops"
_UNSET = object()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a run is made again."""

    before: tuple[str, ...]  # commands that come first: weights of another project are brought in
    command: str
    file: str  # the pipeline that the command reads, as YAML; "" where it is a shipped one

    @property
    def lines(self) -> tuple[str, ...]:
        """All commands."""
        return (*self.before, self.command)


def recipe(run: StageRun, chain: Chain, origin: Origin) -> Recipe:
    """Return how to make a run again, with all that it stands on."""
    runs = _stages(run, chain)
    before = tuple(_import(each) for each in runs.values() if each.params.get("method") == imported.METHOD)
    used = {each.params.get("dataset") for each in runs.values()}
    words = [word for name, root in origin.data.items() if name in used for word in ("--data", f"{name}={root}")]
    if (sets := _sets(run, runs, origin)) is not None:
        words += [word for each in sets for word in ("--set", each)]
        return Recipe(before, shlex.join([PROGRAM, "submit", run.tags[records.PIPELINE], *words]), "")
    short = run.run_id[:SHORT]
    name = f"run-{short}.yaml"
    write = f"{shlex.join([PROGRAM, 'explain', short, '--yaml'])} > {shlex.quote(name)}"
    return Recipe(before, f"{write} && {shlex.join([PROGRAM, 'submit', name, *words])}", pipeline(run, chain, origin))


def pipeline(run: StageRun, chain: Chain, origin: Origin) -> str:
    """Return a pipeline of a run and what it stands on alone, as YAML."""
    labels = key(json.loads(run.tags[records.LABELS]))
    stages: dict[str, Tree] = {}
    for name, each in _stages(run, chain).items():
        needs: list[Tree] = [*json.loads(each.tags[records.INPUTS])]
        known = origin.resources.get((labels, name), {})
        stages[name] = {"kind": each.kind, "needs": needs, "params": dict(each.params), "resources": known}
    return dump({"name": f"run-{run.run_id[:SHORT]}", "title": f"{run.stage} {run.arm}".strip(), "stages": stages})


def _stages(run: StageRun, chain: Chain) -> dict[str, StageRun]:
    """Return a run and what it stands on by stage, what comes first in front."""
    return {each.stage: each for each in reversed(list(chain.walk([run.run_id])))}


def _import(run: StageRun) -> str:
    settings = run.params.get("settings", {})
    words = [PROGRAM, "import", "FILE", "--as", str(settings.get("as_method"))]
    return f"{shlex.join(words)}  # FILE with sha256 {settings.get('sha256')}".replace("\n", " ")


def _sets(run: StageRun, runs: Mapping[str, StageRun], origin: Origin) -> list[str] | None:
    """Return the `--set` by which the shipped pipeline of the run's name makes it; None where nothing does."""
    name, labels = run.tags[records.PIPELINE], dict(json.loads(run.tags[records.LABELS]))
    if name not in spec.shipped():
        return None
    sets = [f"matrix.{axis}=[{label}]" for axis, label in labels.items()]
    try:
        if (arm := _arm(name, tuple(sets))) is None:
            return None
        sets += _differences(arm, runs, origin, key(labels))
        arm = _arm(name, tuple(sets))
    except LeoclrOpsError:  # the shipped file has changed since
        return None
    return sets if arm and _is_same(arm, runs) else None


@cache
def _load(name: str, sets: tuple[str, ...]) -> PipelineSpec:
    return spec.load(name, sets)


def _arm(name: str, sets: tuple[str, ...]) -> Arm | None:
    arms = _load(name, sets).arms
    return arms[0] if len(arms) == 1 else None


def _is_same(arm: Arm, runs: Mapping[str, StageRun]) -> bool:
    return all(
        name in arm.stages
        and arm.stages[name].kind == run.kind
        and digest_of(arm.stages[name].params_json) == digest_of(run.params)
        for name, run in runs.items()
    )


def _differences(arm: Arm, runs: Mapping[str, StageRun], origin: Origin, labels: str) -> Iterator[str]:
    """Yield what the shipped pipeline has to be told, so that it says what the runs record."""
    for name, run in runs.items():
        if name not in arm.stages:
            continue
        for path, value in _leaves(arm.stages[name].params_json, run.params):
            yield f"{name}.params.{path}={json.dumps(value)}"
        known = origin.resources.get((labels, name))
        if isinstance(known, dict):
            for path, value in _leaves(arm.stages[name].resources.model_dump(mode="json"), known):
                yield f"{name}.resources.{path}={json.dumps(value)}"


def _leaves(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of what `after` says and `before` does not."""
    for name, value in after.items():
        old = before.get(name, _UNSET)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from _leaves(old, value, f"{prefix}{name}.")
        elif old is _UNSET or old != value:
            yield f"{prefix}{name}", value
