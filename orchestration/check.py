"""Values of a file are checked against a type; pydantic's findings are said in our words.

Strict: `epochs: "30"`, `epochs: true` and `flip: yes` are refused; a whole number may stand where a number may.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from orchestration.document import Place, Tree, printable, show
from orchestration.errors import SpecError, did_you_mean

T = TypeVar("T")
Where = Callable[[tuple[str, ...]], Place]

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_EXPECTED = {  # by pydantic's error type, in the words of a message; braces take the error's context
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "missing_positional_only_argument": "one more value",
}


def check(kind: type[T], raw: Mapping[str, Tree], *, where: Where, noun: str) -> T:
    """Return `raw` as a `kind`; `where` gives the place of a path in `raw`, `noun` is what a key is called.

    Raises: SpecError for the most useful finding: an unknown key before a wrong value before a missing key.
    """
    try:
        value: T = _adapter(kind).validate_json(json.dumps(raw), strict=True)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as error:
        findings = error.errors(include_url=False)
        first = min(findings, key=lambda finding: _rank(finding["type"]))
        raise _say(first, findings, kind=kind, raw=raw, where=where, noun=noun) from None
    return value


def to_json(value: object) -> dict[str, Any]:
    """Return a checked value as JSON, defaults filled in."""
    dumped = _adapter(type(value)).dump_python(value, mode="json")  # type: ignore[arg-type]  # a type is hashable
    assert isinstance(dumped, dict)
    return dumped


@functools.cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _rank(error_type: str) -> int:
    return 0 if error_type in _UNKNOWN else 2 if error_type == "missing" else 1


def _say(
    first: ErrorDetails,
    findings: list[ErrorDetails],
    *,
    kind: type[T],
    raw: Mapping[str, Tree],
    where: Where,
    noun: str,
) -> SpecError:
    path = _without_tags(raw, _path(first))
    if first["type"] in _UNKNOWN:
        known = _fields(kind, path[:-1])
        hint = did_you_mean(path[-1], known) if known else "nothing can be set here"
        return SpecError(f"no {noun} here is called {show(path[-1])}", place=str(where(path)), hint=hint)
    if first["type"] == "missing" and path[-1].isdecimal():
        few = show(_value(raw, path[:-1]))
        return SpecError(f"expected more than {path[-1]} values, got {few}", place=str(where(path[:-1])))
    if first["type"] == "missing":
        hint = f"add `{path[-1]}: ...`, it has no default"
        return SpecError(f"{show(path[-1])} is missing", place=str(where(path[:-1])), hint=hint)
    path = _existing(raw, path)  # a union adds steps that are not in the file
    if first["type"] == "value_error":
        return _own_words(first, path, raw=raw, fields=_fields(kind, path), where=where)
    wanted = [_expected(f) for f in findings if _existing(raw, _without_tags(raw, _path(f))) == path]
    given = _value(raw, path)
    hint = ""
    if first["type"] in ("literal_error", "enum") and isinstance(given, str):
        hint = did_you_mean(given, re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", ""))))
    elif first["type"] == "bool_type":
        hint = "write true or false: `yes`, `no`, `on` and `off` are words here"
    return SpecError(
        f"expected {' or '.join(dict.fromkeys(wanted))}, got {show(given)}", place=str(where(path)), hint=hint
    )


def _expected(finding: ErrorDetails) -> str:
    words = _EXPECTED.get(finding["type"])
    if words is None:
        return printable(finding["msg"].removeprefix("Input should be ").removeprefix("Value error, "))
    return words.format(**finding.get("ctx", {}))


def _own_words(
    finding: ErrorDetails, path: tuple[str, ...], *, raw: Mapping[str, Tree], fields: list[str], where: Where
) -> SpecError:
    """Return what a type said of itself: by agreement the message of its ValueError begins with the field's name."""
    message = str(finding.get("ctx", {}).get("error", finding["msg"]))
    word = re.match(r"\W*(\w+)\W*?(:\s+)?", message)
    if word and word[1] in fields:
        path = (*path, word[1])
        message = message[word.end() :] if word[2] else message
    given = _value(raw, path) if _existing(raw, path) == path else None
    if isinstance(given, int | float | str) and str(given) not in message:
        message += f", got {show(given)}"
    return SpecError(printable(message), place=str(where(path)))


def _path(finding: ErrorDetails) -> tuple[str, ...]:
    return tuple(str(step) for step in finding["loc"])


def _without_tags(raw: Mapping[str, Tree], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return `path` without the steps by which pydantic names the members of a union, and which no file has."""
    kept: tuple[str, ...] = ()
    for place, step in enumerate(path, start=1):
        if place == len(path) or _existing(raw, (*kept, step)) == (*kept, step):
            kept = (*kept, step)
    return kept


def _existing(raw: Tree | Mapping[str, Tree], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the part of `path` that leads somewhere in `raw`."""
    for depth, step in enumerate(path):
        if isinstance(raw, Mapping) and step in raw:
            raw = raw[step]
        elif isinstance(raw, list) and step.isdecimal() and int(step) < len(raw):
            raw = raw[int(step)]
        else:
            return path[:depth]
    return path


def _value(raw: Tree | Mapping[str, Tree], path: tuple[str, ...]) -> Tree | Mapping[str, Tree]:
    for step in path:
        raw = raw[int(step)] if isinstance(raw, list) else raw[step]  # type: ignore[index]  # _existing
    return raw


def _fields(kind: object, path: tuple[str, ...]) -> list[str]:
    """Return the names of the fields of the record at `path` in `kind`; none where there is no record."""
    kinds = _alternatives(kind)
    for step in path:
        kinds = [other for each in kinds for below in _below(each, step) for other in _alternatives(below)]
    for each in kinds:
        if isinstance(each, type) and issubclass(each, BaseModel):
            return list(each.model_fields)
        if isinstance(each, type) and dataclasses.is_dataclass(each):
            return [field.name for field in dataclasses.fields(each)]
    return []


def _alternatives(kind: object) -> list[object]:
    """Return the members of a union, or `kind` alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated):
        return [other for member in typing.get_args(kind) for other in _alternatives(member)]
    return [kind]


def _below(kind: object, step: str) -> list[object]:
    """Return what may stand at key or index `step` of a `kind`."""
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel)):
        hints = typing.get_type_hints(kind)
        return [hints[step]] if step in hints else []
    return list(typing.get_args(kind))
