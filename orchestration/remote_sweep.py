"""A sweep as a parcel for a cluster: its file, its base, and the words that put both in that place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.contract import Resources
from orchestration import spec
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.send import Parcel
from orchestration.document import Place, dump, mapping, read
from orchestration.storage import address
from orchestration.sweep.spec import SweepSpec

FILE, BASE = "sweep.yaml", "base.yaml"


def parcel(sweep: SweepSpec, profile: ClusterProfile, roots: Mapping[str, Path], *, new: bool) -> Parcel:
    """Return what is sent of a sweep; `roots` are folders of the nodes by data set. Raises: SpecError; NotFound."""
    base = spec.load(sweep.base)
    document = mapping(read(sweep.yaml, Place(FILE)), Place(FILE))
    files = {}
    if Path(sweep.base).is_file():  # else it is one that ships
        files[BASE] = Path(sweep.base).read_text(encoding="utf-8")
        document["base"] = BASE
    files[FILE] = dump({**document, "name": sweep.name})
    words = ["sweep", FILE, *(["--new"] if new else [])]
    for change in (*_changes(sweep), *_filled(base, profile)):
        words += ["--set", change]
    for name, root in {**profile.data, **roots}.items():
        words += ["--data", f"{name}={address(root) or root}"]
    return Parcel(sweep.name, tuple(words), files)


def _changes(sweep: SweepSpec) -> Iterator[str]:
    """Yield what the command line changes in the base, which the sweep's file does not say."""
    place = Place(FILE)
    said = mapping(mapping(read(sweep.yaml, place), place).get("set"), place)
    for change in sweep.changes:
        if (path := ".".join(change.path)) not in said:
            yield f"{path}={json.dumps(change.value)}"


def _filled(base: spec.PipelineSpec, profile: ClusterProfile) -> Iterator[str]:
    """Yield what the profile fills in where no arm's stage says it."""
    stages = {name: stage for arm in base.arms for name, stage in arm.stages.items()}
    for name, stage in stages.items():
        for key, value in _beyond(profile.fill(stage.resources), stage.resources).items():
            yield f"{name}.resources.{key}={json.dumps(value)}"


def _beyond(filled: Resources, asked: Resources) -> dict[str, int | float | str | bool | None]:
    known = filled.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in known.items() if key not in asked.model_fields_set}
