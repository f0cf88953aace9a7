"""Pipelines made of a pipeline: a part of it, a chain of it, the same in another place; and one as a whole text.

`spec.load` reads that text back: overrides and matrix are applied in it, and defaults filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jobs.contract import Resources
from orchestration import continuing
from orchestration.document import Place, Tree, dump
from orchestration.stages import Arm, PipelineSpec
from orchestration.storage import address


def cut(spec: PipelineSpec, stages: Collection[str]) -> PipelineSpec:
    """Return `spec` with these stages alone, and those that they need."""
    arms = []
    for arm in spec.arms:
        kept, todo = set[str](), list(stages)
        while todo:
            name = todo.pop()
            kept.add(name)
            todo += arm.stages[name].needs
        arms.append(Arm(arm.labels, {name: stage for name, stage in arm.stages.items() if name in kept}))
    head: dict[str, Tree] = {"name": spec.name, "title": spec.title, "table": None}
    return replace(spec, arms=tuple(arms), table=None, yaml=resolved(head, spec.data, arms))


def going_on(spec: PipelineSpec, ended: Sequence[PipelineSpec], stage: str, place: Place) -> PipelineSpec:
    """Return `spec` whose pre-training `stage` goes on from those of `ended`, one after the other; alike in arms.

    Raises: SpecError, at `place`, where one of them cannot go on from the one before it.
    """
    arms = []
    for index, arm in enumerate(spec.arms):
        links = [each.arms[index].stages[stage] for each in ended]
        names = [f"{stage}-{number}" for number in range(1, len(links) + 1)]
        before = [(), *((name,) for name in names)]
        chain = {n: replace(link, name=n, needs=b) for n, link, b in zip(names, links, before, strict=False)}
        stages = {**chain, **arm.stages, stage: replace(arm.stages[stage], needs=before[-1])}
        continuing.check(stages, lambda path: place)
        arms.append(replace(arm, stages=stages))
    head: dict[str, Tree] = {"name": spec.name, "title": spec.title, "table": spec.table}
    return replace(spec, arms=tuple(arms), yaml=resolved(head, spec.data, arms))


def part(spec: PipelineSpec, stages: Mapping[str, Collection[str]]) -> PipelineSpec:
    """Return `spec` with these stages, by the name of their arm, and no others."""
    arms = tuple(
        replace(arm, stages={name: stage for name, stage in arm.stages.items() if name in stages[arm.name]})
        for arm in spec.arms
        if arm.name in stages
    )
    head: dict[str, Tree] = {"name": spec.name, "title": spec.title, "table": spec.table}
    return replace(spec, arms=arms, yaml=resolved(head, spec.data, arms))


def placed(spec: PipelineSpec, fill: Callable[[Resources], Resources], data: Mapping[str, Path]) -> PipelineSpec:
    """Return `spec` as it runs in another place: what its stages ask for is filled in, and data sets lie at `data`.

    A table that is a file of this machine is left out.
    """
    arms = tuple(
        replace(arm, stages={n: replace(s, resources=fill(s.resources)) for n, s in arm.stages.items()})
        for arm in spec.arms
    )
    table, roots = None if spec.table and "/" in spec.table else spec.table, {**spec.data, **data}
    head: dict[str, Tree] = {"name": spec.name, "title": spec.title, "table": table}
    return replace(spec, arms=arms, table=table, data=roots, yaml=resolved(head, roots, arms))


def resolved(head: dict[str, Tree], data: Mapping[str, Path], arms: Sequence[Arm]) -> str:
    """Return the text of a pipeline, every value of it written out."""
    stages: list[Tree] = [{"labels": dict(arm.labels), "stages": _stages_tree(arm)} for arm in arms]
    return dump({**head, "data": {name: address(root) or str(root) for name, root in data.items()}, "arms": stages})


def _stages_tree(arm: Arm) -> dict[str, Tree]:
    return {
        name: {
            "kind": stage.kind,
            "needs": list(stage.needs),
            "params": stage.params_json,
            "resources": stage.resources.model_dump(mode="json"),
        }
        for name, stage in arm.stages.items()
    }
