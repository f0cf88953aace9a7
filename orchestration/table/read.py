"""A table file becomes a checked `TableSpec`. Every mistake is one `SpecError` that carries its path in the file.

title: one line
pipeline: quickstart            # cells come from its latest submission, or from the one that is named
rows:
  by: method                    # an axis of the pipeline's matrix; the other axes are averaged over
  titles: {leoclr: LeOCLR}      # title by label, in the order of the rows

or, to select among all tracked runs,

pipelines: [table-5]            # whose runs fill it
runs: {pretrained_on: cifar10}  # what the runs of all cells have; PATHS and params.*, pretrain.* by dotted path
rows:
  moco_v2:
    title: MoCo-v2
    facts: {epochs: 800}        # shown beside the title
    runs: {method: moco_v2, epochs: 800}       # and `flags: [...]`, or `why:` it has no runs of ours
equal: [epochs]                 # facts: only rows that agree in all of them are ranked against each other

and in both

columns:
  - {title: linear top-1, stage: linear, metric: top1}     # and `better: lower`, `decimals: 3` where it is no accuracy
published:                      # what others report, shown beside ours and never mixed with it
  source: arXiv:2403.06813, table 1
  values: {moco_v2: {linear top-1: 71.7}}      # a number, `unknown`, or {value: 71.7, source: ..., flags: [...]}
flags: {reproduced: reproduced by the authors}             # footnotes by name
differences: [{of: leoclr, minus: moco_v2}]    # over the seeds that both have; and `title:`
notes: [a line below the table]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from orchestration.document import Place, Tree, mapping, only, read_file, show, text
from orchestration.errors import NotFound, SpecError, did_you_mean
from orchestration.table import claims
from orchestration.table import spec as table_spec
from orchestration.table.checks import distinct, known, need, texts
from orchestration.table.spec import Better, Column, Row, TableSpec

MAX_DECIMALS = 6
PATHS = {
    "dataset": "params.dataset",  # of the stage itself
    "protocol": "protocol",
    "method": "pretrain.method",  # of the pre-training that it came after
    "pretrained_on": "pretrain.dataset",
    "epochs": "pretrain.epochs",
    "batch": "pretrain.batch",
    "backbone": "pretrain.backbone",
}
"""What a selector's key means; any other is a dotted path that begins with one of PREFIXES."""

PREFIXES = ("params.", "pretrain.")
_SHARED = ("title", "columns", "rows", "published", "flags", "differences", "notes")
_KEYS = {"pipeline": (*_SHARED, "pipeline"), "pipelines": (*_SHARED, "pipelines", "runs", "equal")}
_ROW = ("title", "facts", "runs", "flags", "why")


def load(reference: str) -> TableSpec:
    """Return the table in the file `reference`, or the shipped one of that name.

    Raises:
        NotFound: there is neither.
        SpecError: the file says something impossible; the message carries its place.
    """
    tables = table_spec.shipped()
    path = tables.get(reference, Path(reference))
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # too long a name, a null byte
        is_file = False
    if not is_file:
        raise NotFound(f"no table is called {show(reference)}, and no file", hint=did_you_mean(reference, tables))
    place = Place(path.name if reference in tables else reference)
    found = read(mapping(read_file(path, place.file), place), place)
    return replace(found, name=reference, pipelines=tuple(_beside(path, each) for each in found.pipelines))


def read(tree: dict[str, Tree], place: Place) -> TableSpec:
    """Return the table that a file's tree describes. Raises: SpecError."""
    form = "pipeline" if "pipeline" in tree or "pipelines" not in tree else "pipelines"
    only(tree, _KEYS[form], place)
    flags = claims.flags(tree.get("flags"), place.at("flags"))
    rows = _rows(need(tree, "rows", place), form, flags, place.at("rows"))
    columns = _columns(need(tree, "columns", place), form, place.at("columns"))
    published, source = claims.published(tree.get("published"), rows, columns, flags=flags, place=place.at("published"))
    spec = TableSpec(
        title=text(need(tree, "title", place), place.at("title")),
        pipeline=text(need(tree, "pipeline", place), place.at("pipeline")) if form == "pipeline" else "",
        rows=tuple(rows.values()),
        columns=columns,
        pipelines=texts(tree.get("pipelines"), place.at("pipelines")),
        runs=_selector(tree.get("runs"), place.at("runs")),
        flags=flags,
        equal=_equal(tree.get("equal"), rows, place.at("equal")),
        notes=texts(tree.get("notes"), place.at("notes")),
        differences=claims.differences(tree.get("differences"), rows, place.at("differences")),
        published=published,
        published_source=source,
    )
    _agree(spec, place)
    return spec


def _beside(path: Path, pipeline: str) -> str:
    """Return a pipeline's name, or its path as seen from the table's folder."""
    is_path = "/" in pipeline or pipeline.endswith((".yaml", ".yml"))
    return str(path.absolute().parent / pipeline) if is_path else pipeline


def _rows(value: Tree, form: str, flags: Mapping[str, str], place: Place) -> dict[str, Row]:
    tree = mapping(value, place)
    rows = _by_axis(tree, place) if form == "pipeline" else _selected(tree, flags, place)
    distinct((row.title for row in rows.values()), place.at("titles") if form == "pipeline" else place)
    return rows


def _by_axis(tree: dict[str, Tree], place: Place) -> dict[str, Row]:
    only(tree, ("by", "titles"), place)
    at = place.at("titles")
    titles = {label: text(title, at.at(label)) for label, title in mapping(need(tree, "titles", place), at).items()}
    if not titles:
        hint = "title by label of the axis, such as {leoclr: LeOCLR}"
        raise SpecError("expected at least one row", place=str(at), hint=hint)
    axis = text(need(tree, "by", place), place.at("by"))
    return {label: Row(title, {axis: label}, label) for label, title in titles.items()}


def _selected(tree: dict[str, Tree], flags: Mapping[str, str], place: Place) -> dict[str, Row]:
    if not tree:
        raise SpecError("expected at least one row", place=str(place), hint="such as {leoclr: {title: LeOCLR}}")
    return {key: _row(key, mapping(raw, place.at(key)), flags, place.at(key)) for key, raw in tree.items()}


def _row(key: str, raw: dict[str, Tree], flags: Mapping[str, str], place: Place) -> Row:
    only(raw, _ROW, place)
    facts: dict[str, str | int | float] = {}
    for name, value in mapping(raw.get("facts"), place.at("facts")).items():
        if isinstance(value, bool) or not isinstance(value, str | int | float) or "\n" in str(value):
            raise SpecError(f"expected a number or a word, got {show(value)}", place=str(place.at("facts", name)))
        facts[name] = value
    return Row(
        title=text(need(raw, "title", place), place.at("title")),
        labels={},
        key=key,
        runs=_selector(raw.get("runs"), place.at("runs")),
        facts=facts,
        flags=claims.known_flags(raw.get("flags"), flags, place.at("flags")),
        why=text(raw["why"], place.at("why")) if "why" in raw else "",
    )


def _columns(value: Tree, form: str, place: Place) -> tuple[Column, ...]:
    if not isinstance(value, list) or not value:
        raise SpecError(f"expected a list of columns, got {show(value)}", place=str(place))
    places = [place.at(str(i)) for i in range(len(value))]
    columns = tuple(_column(mapping(each, at), form, at) for each, at in zip(value, places, strict=True))
    distinct((column.title for column in columns), place)
    return columns


def _column(tree: dict[str, Tree], form: str, place: Place) -> Column:
    keys = ("title", "stage", "metric", "better", "decimals")
    only(tree, keys if form == "pipeline" else (*keys, "runs"), place)
    title, stage, metric = (text(need(tree, key, place), place.at(key)) for key in ("title", "stage", "metric"))
    decimals = tree.get("decimals", 1)
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= MAX_DECIMALS:
        raise SpecError(f"expected 0 to {MAX_DECIMALS}, got {show(decimals)}", place=str(place.at("decimals")))
    better = _better(tree.get("better", "higher"), place.at("better"))
    return Column(title, stage, metric, better, decimals, _selector(tree.get("runs"), place.at("runs")))


def _better(value: Tree, place: Place) -> Better:
    if value == "higher":
        return "higher"
    if value == "lower":
        return "lower"
    raise SpecError(f"expected `higher` or `lower`, got {show(value)}", place=str(place))


def _selector(value: Tree, place: Place) -> dict[str, Tree]:
    """Return value by full path."""
    found: dict[str, Tree] = {}
    for key, each in mapping(value, place).items():
        path = PATHS.get(key, key)
        if path == key and key not in PATHS and not any(key.startswith(prefix) for prefix in PREFIXES):
            hint = f"{did_you_mean(key, PATHS)} Others are paths: params.settings.epochs, pretrain.settings.temperature"
            raise SpecError(f"no key of a selector is called {show(key)}", place=str(place.at(key)), hint=hint)
        if path in found:
            raise SpecError(f"{show(path)} is given twice", place=str(place.at(key)))
        if path == "protocol":
            text(each, place.at(key))
        found[path] = each
    return found


def _equal(value: Tree, rows: Mapping[str, Row], place: Place) -> tuple[str, ...]:
    names = texts(value, place)
    facts = {name for row in rows.values() for name in row.facts}
    for i, name in enumerate(names):
        known(name, facts, place.at(str(i)), "fact")
    return names


def _agree(spec: TableSpec, place: Place) -> None:
    """Refuse a cell whose runs would have to be two things at once."""
    for row in spec.rows:
        for i, column in enumerate(spec.columns):
            seen = dict(spec.runs)
            for part, who in ((row.runs, f"row {show(row.key)}"), (column.runs, "this column")):
                for path, value in part.items():
                    if seen.setdefault(path, value) != value:
                        fact = f"{who} wants {show(path)} to be {show(value)}, another part {show(seen[path])}"
                        raise SpecError(fact, place=str(place.at("columns", str(i))), hint="say it once")
