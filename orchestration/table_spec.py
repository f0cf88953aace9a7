"""A table file becomes a checked `TableSpec`: which arms are its rows, which metrics of which stages its columns.

title: one line
pipeline: quickstart            # cells come from its latest submission, or from the one that is named
rows:
  by: method                    # an axis of the pipeline's matrix; the other axes are averaged over
  titles: {leoclr: LeOCLR}      # title by label, in the order of the rows
columns:
  - {title: linear top-1, stage: linear, metric: top1}     # and `better: lower`, `decimals: 3` where it is no accuracy
published:                      # optional: what the authors report, shown beside ours and never mixed with it
  source: arXiv:2403.06813, table 1
  values: {leoclr: {linear top-1: 71.7}}                   # by row label and column title, in percent
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import jobs
from orchestration.document import Place, Tree, mapping, only, read_file, show, text
from orchestration.errors import NotFound, SpecError, did_you_mean
from orchestration.spec import PipelineSpec

Better = Literal["higher", "lower"]
FOLDER = Path(__file__).parent / "tables"
SEED = "seed"  # the axis that tables average over
MAX_DECIMALS = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """The arms that have all of `labels`."""

    title: str
    labels: Mapping[str, str]  # label by axis


@dataclass(frozen=True, slots=True)
class Column:
    """One number that a stage ends with."""

    title: str
    stage: str  # its name in the pipeline
    metric: str
    better: Better = "higher"
    decimals: int = 1  # accuracies are in percent: a tenth is one image in a thousand


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table file, checked."""

    title: str
    pipeline: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    published: Mapping[tuple[str, str], float]  # by titles of row and column
    published_source: str


def load(reference: str) -> TableSpec:
    """Return the table in the file `reference`, or the shipped one of that name.

    Raises:
        NotFound: there is neither.
        SpecError: the file says something impossible; the message carries its place.
    """
    tables = shipped()
    path = tables.get(reference, Path(reference))
    if not path.is_file():
        raise NotFound(f"no table is called {show(reference)}, and no file", hint=did_you_mean(reference, tables))
    place = Place(path.name if reference in tables else reference)
    return _table(mapping(read_file(path, place.file), place), place)


def shipped() -> dict[str, Path]:
    """Return the tables that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def default(pipeline: PipelineSpec) -> TableSpec:
    """Return the table of a pipeline that names none: its arms without their seeds, all metrics of all its stages."""
    rows: dict[str, Row] = {}
    for arm in pipeline.arms:
        labels = {axis: label for axis, label in arm.labels.items() if axis != SEED}
        title = " ".join(labels.values()) or pipeline.name
        rows.setdefault(title, Row(title, labels))
    columns = {
        (name, metric.name): Column(
            f"{name} {metric.name}", name, metric.name, metric.better, 1 if metric.unit == "%" else 3
        )
        for arm in pipeline.arms
        for name, stage in arm.stages.items()
        for metric in jobs.metrics(stage.kind, stage.params)
    }
    return TableSpec(pipeline.title, pipeline.name, tuple(rows.values()), tuple(columns.values()), {}, "")


def _table(tree: dict[str, Tree], place: Place) -> TableSpec:
    only(tree, ("title", "pipeline", "rows", "columns", "published"), place)
    axis, titles = _rows(mapping(_need(tree, "rows", place), place.at("rows")), place.at("rows"))
    listed, at = _need(tree, "columns", place), place.at("columns")
    if not isinstance(listed, list) or not listed:
        raise SpecError(f"expected a list of columns, got {show(listed)}", place=str(at))
    columns = [_column(mapping(each, at.at(str(i))), at.at(str(i))) for i, each in enumerate(listed)]
    _distinct(titles.values(), place.at("rows", "titles"))
    _distinct((column.title for column in columns), at)
    published, source = _published(mapping(tree.get("published"), place.at("published")), place.at("published"))
    return TableSpec(
        title=text(_need(tree, "title", place), place.at("title")),
        pipeline=text(_need(tree, "pipeline", place), place.at("pipeline")),
        rows=tuple(Row(title, {axis: label}) for label, title in titles.items()),
        columns=tuple(columns),
        published=_by_title(published, titles, {column.title for column in columns}, place.at("published", "values")),
        published_source=source,
    )


def _rows(tree: dict[str, Tree], place: Place) -> tuple[str, dict[str, str]]:
    """Return the axis, and title by label."""
    only(tree, ("by", "titles"), place)
    at = place.at("titles")
    titles = {label: text(title, at.at(label)) for label, title in mapping(_need(tree, "titles", place), at).items()}
    if not titles:
        raise SpecError(
            "expected at least one row", place=str(at), hint="title by label of the axis, such as {leoclr: LeOCLR}"
        )
    return text(_need(tree, "by", place), place.at("by")), titles


def _column(tree: dict[str, Tree], place: Place) -> Column:
    only(tree, ("title", "stage", "metric", "better", "decimals"), place)
    title, stage, metric = (text(_need(tree, key, place), place.at(key)) for key in ("title", "stage", "metric"))
    decimals = tree.get("decimals", 1)
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= MAX_DECIMALS:
        raise SpecError(f"expected 0 to {MAX_DECIMALS}, got {show(decimals)}", place=str(place.at("decimals")))
    return Column(title, stage, metric, _better(tree.get("better", "higher"), place.at("better")), decimals)


def _better(value: Tree, place: Place) -> Better:
    if value == "higher":
        return "higher"
    if value == "lower":
        return "lower"
    raise SpecError(f"expected `higher` or `lower`, got {show(value)}", place=str(place))


def _published(tree: dict[str, Tree], place: Place) -> tuple[dict[str, dict[str, float]], str]:
    """Return value by column title by row label, and where they were published."""
    only(tree, ("source", "values"), place)
    if not tree:
        return {}, ""
    source = text(_need(tree, "source", place), place.at("source"))
    at = place.at("values")
    rows = {label: mapping(row, at.at(label)) for label, row in mapping(_need(tree, "values", place), at).items()}
    return {
        label: {title: _number(v, at.at(label, title)) for title, v in row.items()} for label, row in rows.items()
    }, source


def _number(value: Tree, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"expected a number, got {show(value)}", place=str(place))
    return float(value)


def _by_title(
    values: Mapping[str, Mapping[str, float]], titles: Mapping[str, str], columns: set[str], place: Place
) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for label, row in values.items():
        _known(label, titles, place.at(label), "row")
        for column, value in row.items():
            _known(column, columns, place.at(label, column), "column")
            found[titles[label], column] = value
    return found


def _known(name: str, known: Iterable[str], place: Place, what: str) -> None:
    names = list(known)
    if name not in names:
        raise SpecError(f"no {what} here is called {show(name)}", place=str(place), hint=did_you_mean(name, names))


def _distinct(titles: Iterable[str], place: Place) -> None:
    seen: set[str] = set()
    for title in titles:
        if title in seen:
            raise SpecError(f"two are called {show(title)}", place=str(place))
        seen.add(title)


def _need(tree: Mapping[str, T], key: str, place: Place) -> T:
    if key not in tree:
        raise SpecError(f"`{key}` is missing", place=str(place))
    return tree[key]
