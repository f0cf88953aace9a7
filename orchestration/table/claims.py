"""The parts of a table file that tell what others report, with footnotes, and which rows are compared."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.document import Place, Tree, mapping, only, show, text
from orchestration.errors import SpecError
from orchestration.table.checks import distinct, known, need, texts
from orchestration.table.spec import Column, Difference, Published, Row


def published(
    value: Tree, rows: Mapping[str, Row], columns: tuple[Column, ...], *, flags: Mapping[str, str], place: Place
) -> tuple[dict[tuple[str, str], Published], str]:
    """Return what is published by titles of row and column, and where. Raises: SpecError."""
    tree = mapping(value, place)
    only(tree, ("source", "values"), place)
    if not tree:
        return {}, ""
    source = text(need(tree, "source", place), place.at("source"))
    claims: dict[tuple[str, str], Published] = {}
    at, titles = place.at("values"), [column.title for column in columns]
    for key, row in mapping(need(tree, "values", place), at).items():
        known(key, rows, at.at(key), "row")
        for column, claim in mapping(row, at.at(key)).items():
            known(column, titles, at.at(key, column), "column")
            claims[rows[key].title, column] = _claim(claim, flags, at.at(key, column))
    return claims, source


def flags(value: Tree, place: Place) -> dict[str, str]:
    """Return footnote by name. Raises: SpecError."""
    return {name: text(note, place.at(name)) for name, note in mapping(value, place).items()}


def known_flags(value: Tree, flags: Mapping[str, str], place: Place) -> tuple[str, ...]:
    """Return names of footnotes. Raises: SpecError."""
    names = texts(value, place)
    for i, name in enumerate(names):
        known(name, flags, place.at(str(i)), "flag")
    return names


def differences(value: Tree, rows: Mapping[str, Row], place: Place) -> tuple[Difference, ...]:
    """Return the pairs of rows to compare. Raises: SpecError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        hint = "such as [{of: leoclr, minus: moco_v2}]"
        raise SpecError(f"expected a list, got {show(value)}", place=str(place), hint=hint)
    found = []
    for i, raw in enumerate(value):
        at = place.at(str(i))
        tree = mapping(raw, at)
        only(tree, ("of", "minus", "title"), at)
        of, minus = (text(need(tree, key, at), at.at(key)) for key in ("of", "minus"))
        for key, name in (("of", of), ("minus", minus)):
            known(name, rows, at.at(key), "row")
        title = text(tree["title"], at.at("title")) if "title" in tree else f"{rows[of].title} - {rows[minus].title}"
        found.append(Difference(of, minus, title))
    distinct((each.title for each in found), place)
    return tuple(found)


def _claim(value: Tree, flags: Mapping[str, str], place: Place) -> Published:
    if not isinstance(value, dict):
        return Published(_number_or_unknown(value, place))
    only(value, ("value", "source", "flags"), place)
    source = text(value["source"], place.at("source")) if "source" in value else ""
    number = _number_or_unknown(need(value, "value", place), place.at("value"))
    return Published(number, source, known_flags(value.get("flags"), flags, place.at("flags")))


def _number_or_unknown(value: Tree, place: Place) -> float | None:
    if value == "unknown":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"expected a number or `unknown`, got {show(value)}", place=str(place))
    return float(value)
