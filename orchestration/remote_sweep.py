"""A sweep as a parcel for a cluster: its file, its base, and the words that put both in that place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestration import spec
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.send import Parcel
from orchestration.document import Place, dump, mapping, read
from orchestration.storage import address
from orchestration.sweep.spec import SweepSpec

FILE, BASE = "sweep.yaml", "base.yaml"


def parcel(sweep: SweepSpec, profile: ClusterProfile, roots: Mapping[str, Path], *, new: bool) -> Parcel:
    """Return what is sent of a sweep; `roots` are folders of the nodes by data set. Raises: SpecError; NotFound."""
    document = mapping(read(sweep.yaml, Place(FILE)), Place(FILE))
    files = {}
    if (base := spec.portable(sweep.base)) is not None:
        files[BASE] = base
        document["base"] = BASE
    files[FILE] = dump({**document, "name": sweep.name})
    words = ["sweep", FILE, *(["--new"] if new else [])]
    said = mapping(document.get("set"), Place(FILE).at("set"))
    for change in (*_beyond(sweep, len(said)), *_filled(sweep, profile)):
        words += ["--set", change]
    for name, root in {**profile.data, **roots}.items():
        words += ["--data", f"{name}={address(root) or root}"]
    return Parcel(sweep.name, tuple(words), files)


def _beyond(sweep: SweepSpec, said: int) -> Iterator[str]:
    """Yield what the command line changes in the base: it comes after what the sweep's file says, and may repeat it."""
    for change in sweep.changes[said:]:
        yield f"{'.'.join(change.path)}={json.dumps(change.value)}"


def _filled(sweep: SweepSpec, profile: ClusterProfile) -> Iterator[str]:
    """Yield what the profile fills in where neither the sweep nor any arm of its base says it."""
    base = spec.load(sweep.base, [change for change in sweep.changes if "resources" in change.path[1:3]])
    said: dict[str, set[str]] = {}
    for arm in base.arms:
        for name, stage in arm.stages.items():
            said.setdefault(name, set()).update(stage.resources.model_fields_set)
    known = profile.resources.model_dump(mode="json", exclude_unset=True)
    for name, own in said.items():
        for key in (key for key in known if key not in own):
            yield f"{name}.resources.{key}={json.dumps(known[key])}"
