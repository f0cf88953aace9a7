"""Where a submission comes from: the pipeline that it recorded, read as the text of a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.document import Place, Tree, read
from orchestration.errors import SpecError, StoreError
from orchestration.tracking import PROVENANCE, Store

FILE = f"{PROVENANCE}/pipeline.yaml"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the recorded pipeline says besides params, which every run has itself."""

    table: str = ""  # its name, or a path
    data: Mapping[str, str] = field(default_factory=dict)  # folder by data set: told, and never opened
    resources: Mapping[tuple[str, str], Tree] = field(default_factory=dict)  # by labels (sorted) and stage


def origin(store: Store, submission: str) -> Origin:
    """Return where a submission comes from; empty where it recorded nothing that can be read."""
    try:
        tree = read(store.text(submission, FILE) or "", Place(FILE))
    except (SpecError, StoreError):  # not written by us, or not in the store's folder
        return Origin()
    if not isinstance(tree, dict):
        return Origin()
    table, data = tree.get("table"), tree.get("data")
    return Origin(
        table=table if isinstance(table, str) else "",
        data={name: str(root) for name, root in data.items()} if isinstance(data, dict) else {},
        resources=dict(_resources(tree.get("arms"))),
    )


def key(labels: Mapping[str, object]) -> str:
    """Return labels as a key of `Origin.resources`.

    >>> key({"seed": "0", "method": "leoclr"})
    'method=leoclr seed=0'
    """
    return " ".join(f"{axis}={label}" for axis, label in sorted(labels.items()))


def _resources(arms: Tree) -> list[tuple[tuple[str, str], Tree]]:
    found: list[tuple[tuple[str, str], Tree]] = []
    for arm in arms if isinstance(arms, list) else []:
        labels, stages = (arm.get("labels"), arm.get("stages")) if isinstance(arm, dict) else (None, None)
        if isinstance(labels, dict) and isinstance(stages, dict):
            for name, stage in stages.items():
                if isinstance(stage, dict) and stage.get("resources"):
                    found.append(((key(labels), name), stage["resources"]))
    return found
