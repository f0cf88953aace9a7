"""A pipeline file becomes a checked `PipelineSpec`. Every mistake is one `SpecError` that carries its path in the file.

    YAML -> tree (`document`) -> arms (`matrix`) -> params of each stage's own type (`check`) -> PipelineSpec

A stage kind's module, which imports torch, is imported only when a pipeline names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jobs
from jobs.contract import Resources
from leoclr.evaluate.protocols import PROTOCOLS
from orchestration import check, continuing, matrix, order, parts
from orchestration.document import Place, Tree, dump, mapping, only, read, read_file, show, text
from orchestration.errors import NotFound, SpecError, did_you_mean
from orchestration.parts import cut as cut
from orchestration.parts import going_on as going_on
from orchestration.parts import part as part
from orchestration.parts import placed as placed
from orchestration.stages import Arm as Arm
from orchestration.stages import PipelineSpec as PipelineSpec
from orchestration.stages import StageSpec as StageSpec
from orchestration.storage import address, root_of

_FOLDER = Path(__file__).parent
_HEAD = ("name", "title", "table", "data", "matrix")
_WRITTEN = ("name", "title", "table", "data", "arms")  # of a file whose matrix is expanded
_STAGE = ("kind", "needs", "params", "resources")
NAME = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,63}")
_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # no dot: it would break paths


def load(reference: str, overrides: Sequence[str | matrix.Change] = ()) -> PipelineSpec:
    """Return the pipeline at path `reference`, or the shipped one of that name, with `--set` `overrides` applied.

    A change that another file asks for, as a sweep does, carries its own place.

    A reference with a slash, or that ends in .yaml or .yml, is a path; another is a shipped name first. A file may
    also be a `PipelineSpec.yaml`, which has its arms written out instead of a matrix.
    Raises: SpecError for what is wrong in the file; NotFound when there is no such file.
    """
    path = _find(reference)
    file = Place(reference if path.name == Path(reference).name else path.name)
    return _load(mapping(read_file(path, file.file), file), overrides, path=path, file=file, source=reference)


def recorded(content: str, source: str, overrides: Sequence[str] = ()) -> PipelineSpec:
    """Return a pipeline from its `PipelineSpec.yaml`; messages call it `source`. Raises: SpecError."""
    file = Place(source)
    return _load(mapping(read(content, file), file), overrides, path=Path(), file=file, source=source)


def _load(
    document: dict[str, Tree], overrides: Sequence[str | matrix.Change], *, path: Path, file: Place, source: str
) -> PipelineSpec:
    changes = [matrix.parse(each) if isinstance(each, str) else each for each in overrides]
    head = [change for change in changes if change.path[0] in _HEAD]
    for change in head:
        matrix.override_head(document, change, file)
    only(document, _WRITTEN if "arms" in document else (*_HEAD, "stages"), file)
    try:
        return _pipeline(document, [c for c in changes if c not in head], path=path, file=file, source=source)
    except SpecError as error:
        raise matrix.blame(error, head, file) from None


def portable(reference: str) -> str | None:
    """Return the text of a pipeline file for any folder, its matrix unexpanded; None where it is a shipped one.

    Its name is written out, data folders are absolute, and a table that is a file is left out.
    Raises: SpecError; NotFound.
    """
    path, loaded = _find(reference), load(reference)
    if path in shipped().values():
        return None
    data: dict[str, Tree] = {name: address(root) or str(root) for name, root in loaded.data.items()}
    table = None if loaded.table and "/" in loaded.table else loaded.table
    document = mapping(read_file(path, reference), Place(reference))
    return dump({**document, "name": loaded.name, "data": data, "table": table})


def shipped() -> dict[str, Path]:
    """Return the pipelines that come with the package, by name."""
    return {path.stem: path for path in sorted((_FOLDER / "pipelines").glob("*.yaml"))}


def _find(reference: str) -> Path:
    known = shipped()
    is_path = "/" in reference or reference.endswith((".yaml", ".yml"))
    if not is_path and reference in known:
        return known[reference]
    try:
        path = Path(reference).expanduser()
        if path.is_file() or (path.exists() and is_path):
            return path
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, an unknown ~user
        raise NotFound(f"{show(reference)} is not a path: {getattr(error, 'strerror', None) or error}") from None
    if is_path:
        raise NotFound(f"there is no file {show(reference)}", hint=did_you_mean(Path(reference).stem, known))
    raise NotFound(
        f"no pipeline is called {show(reference)}", hint=did_you_mean(reference, known) + " A path works too."
    )


def _pipeline(
    document: dict[str, Tree], changes: list[matrix.Change], *, path: Path, file: Place, source: str
) -> PipelineSpec:
    name = _name(document.get("name", path.stem), given="name" in document, place=file.at("name"))
    arms = (_written if "arms" in document else _expanded)(document, changes, file)
    head: dict[str, Tree] = {"name": name, "title": text(document.get("title", name), file.at("title"))}
    table = _table(document.get("table"), path.parent, file.at("table"))
    data = _data(document.get("data"), path.parent, file.at("data"))
    return PipelineSpec(
        name, str(head["title"]), table, data, arms, source, parts.resolved({**head, "table": table}, data, arms)
    )


def _expanded(document: Mapping[str, Tree], changes: Sequence[matrix.Change], file: Place) -> tuple[Arm, ...]:
    """Return the arms of stages and a matrix."""
    raw, kinds = _stages(document.get("stages"), file.at("stages"))
    needs = order.needs({name: stage.get("needs") for name, stage in raw.items()}, kinds, file.at("stages"))
    axes = mapping(document.get("matrix"), file.at("matrix"))
    drafts = matrix.expand(axes, raw, kinds=kinds, overrides=changes, file=file)
    return tuple(_arm(d, is_first=d is drafts[0], kinds=kinds, needs=needs, file=file) for d in drafts)


def _written(document: Mapping[str, Tree], changes: Sequence[matrix.Change], file: Place) -> tuple[Arm, ...]:
    """Return the arms that are written out one by one."""
    listed, place = document["arms"], file.at("arms")
    if not isinstance(listed, list) or not 0 < len(listed) <= matrix.MAX_ARMS:
        raise SpecError(f"expected a list of 1 to {matrix.MAX_ARMS} arms", place=str(place))
    arms: dict[str, Arm] = {}
    for index, each in enumerate(listed):
        at = place.at(str(index))
        only(raw := mapping(each, at), ("labels", "stages"), at)
        labels = {axis: text(label, at.at("labels", axis)) for axis, label in mapping(raw.get("labels"), at).items()}
        for arm in _expanded({"stages": raw.get("stages")}, changes, Place(str(at))):
            named = replace(arm, labels=labels)
            if named.name in arms:
                raise SpecError(f"two arms are called {show(named.name)}", place=str(at))
            arms[named.name] = named
    return tuple(arms.values())


def _name(value: Tree, *, given: bool, place: Place) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        fact = f"a pipeline cannot be called {show(value)}"
        hint = "lower-case letters, digits and . _ -, up to 64" if given else "give the file a `name:`"
        raise SpecError(fact, place=str(place), hint=hint)
    return value


def _stages(value: Tree, place: Place) -> tuple[dict[str, dict[str, Tree]], dict[str, str]]:
    """Return the stages as written and their kinds, both by name."""
    stages = {name: mapping(raw, place.at(name)) for name, raw in mapping(value, place).items()}
    if not stages:
        raise SpecError(
            "a pipeline needs at least one stage", place=str(place), hint="such as `pretrain: {params: ...}`"
        )
    for name, raw in stages.items():
        if not _STAGE_NAME.fullmatch(name) or name in (*_HEAD, "stages"):
            fact = f"a stage cannot be called {show(name)}"
            raise SpecError(
                fact,
                place=str(place.at(name)),
                hint="lower-case letters, digits and _ -, but no key of the file itself",
            )
        only(raw, _STAGE, place.at(name))
        for section in ("params", "resources"):
            raw[section] = mapping(raw.get(section), place.at(name, section))
    return stages, {name: _kind(name, raw, place.at(name)) for name, raw in stages.items()}


def _kind(name: str, raw: Mapping[str, Tree], place: Place) -> str:
    kind = raw.get("kind", name)
    if isinstance(kind, str) and kind in jobs.STAGES:
        return kind
    hint = did_you_mean(str(kind), jobs.STAGES)
    where = place.at("kind") if "kind" in raw else place
    raise SpecError(f"no stage kind is called {show(kind)}", place=str(where), hint=hint)


def _arm(
    draft: matrix.Draft,
    *,
    is_first: bool,
    kinds: Mapping[str, str],
    needs: Mapping[str, tuple[str, ...]],
    file: Place,
) -> Arm:
    arm = Arm(draft.labels, {})
    try:
        stages = {name: _stage(name, draft, kind=kinds[name], needs=needs[name], file=file) for name in draft.stages}
        continuing.check(stages, lambda path: draft.place(path, file))
    except SpecError as error:
        fact = error.fact if is_first else f"{error.fact} (in arm {show(arm.name)})"  # earlier arms were well
        raise SpecError(fact, place=error.place, hint=error.hint) from None
    return replace(arm, stages=stages)


def _stage(name: str, draft: matrix.Draft, *, kind: str, needs: tuple[str, ...], file: Place) -> StageSpec:
    def param_place(path: tuple[str, ...]) -> Place:
        return draft.place((name, "params", *path), file)

    def resource_place(path: tuple[str, ...]) -> Place:
        return draft.place((name, "resources", *path), file)

    raw = mapping(draft.stages[name]["params"], param_place(()))
    _refuse_unknown_names(kind, raw, param_place)
    params_type = jobs.module(kind).params_type(raw)
    params = check.check(params_type, raw, where=param_place, noun="param")
    resources_raw = mapping(draft.stages[name]["resources"], resource_place(()))
    resources = check.check(Resources, resources_raw, where=resource_place, noun="resource")
    return StageSpec(name, kind, needs, params, check.to_json(params), resources)


def _refuse_unknown_names(kind: str, params: Mapping[str, Tree], where: check.Where) -> None:
    """Refuse a method, data set or protocol that does not exist, before the types that depend on it are looked up."""
    tables = {"method": ("method", _methods()), "dataset": ("data set", _datasets())}
    if known := PROTOCOLS.get(kind):
        tables["protocol"] = (f"{kind} protocol", known)
    for key, (noun, table) in tables.items():
        value = params.get(key)
        if key in params and (not isinstance(value, str) or value not in table):
            hint = did_you_mean(str(value), table)
            raise SpecError(f"no {noun} is called {show(value)}", place=str(where((key,))), hint=hint)


def _methods() -> Mapping[str, str]:
    from jobs import imported
    from leoclr.methods import METHODS  # here, since it imports torch: `--help` waits for nobody

    return {**METHODS, imported.METHOD: imported.__name__}


def _datasets() -> Mapping[str, str]:
    from leoclr.data import DATASETS  # here, since it imports numpy

    return DATASETS


def _data(value: Tree, folder: Path, place: Place) -> dict[str, Path]:
    roots: dict[str, Path] = {}
    for name, raw in mapping(value, place).items():
        if name not in _datasets():
            hint = did_you_mean(name, _datasets())
            raise SpecError(f"no data set is called {show(name)}", place=str(place.at(name)), hint=hint)
        roots[name] = _path(text(raw, place.at(name)), folder, place.at(name))
    return roots


def _path(value: str, folder: Path, place: Place) -> Path:
    try:
        return root_of(value, folder)
    except RuntimeError as error:  # ~user that nobody is
        raise SpecError(f"{show(value)}: {error}", place=str(place)) from None


def _table(value: Tree, folder: Path, place: Place) -> str | None:
    if value is None:
        return None
    name = text(value, place)
    if "/" in name or name.endswith((".yaml", ".yml")):
        return str(_path(name, folder, place))
    known = {path.stem for path in (_FOLDER / "tables").glob("*.yaml")}
    if name not in known:
        raise SpecError(f"no table is called {show(name)}", place=str(place), hint=did_you_mean(name, known))
    return name
