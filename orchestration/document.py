"""YAML text becomes a plain tree, strictly: what YAML would quietly bend is refused, with its place.

Values are read as YAML 1.2 reads them, since 1.1 surprises: `1e-3` is a number, `010` is ten, `1:30` and `2026-01-02`
are text, and only `true` and `false` are booleans: `yes`, `no`, `on` and `off` stay text (a param that wants a boolean
says so).
Refused: a key given twice, keys that are not text, anchors and aliases, tags, control characters, numbers beyond 64
bits, more than `MAX_BYTES` or `MAX_DEPTH`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from orchestration.errors import SpecError, did_you_mean
from orchestration.errors import printable as printable

Tree: TypeAlias = "bool | int | float | str | list[Tree] | dict[str, Tree] | None"

MAX_BYTES = 1_000_000
MAX_DEPTH = 24  # of nested lists and mappings
_MOST_DIGITS = 19  # of a 64-bit integer
_SHOWN = 60  # characters of a value in a message
_LONGEST_STEP = 120  # characters of a key in a place


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file.

    >>> str(Place("p.yaml").at("stages", "linear"))
    'p.yaml: stages.linear'
    """

    file: str
    path: tuple[str, ...] = ()

    def at(self, *keys: str) -> Place:
        """Return the place below this one."""
        return Place(self.file, self.path + keys)

    def __str__(self) -> str:
        steps = (step if len(step) <= _LONGEST_STEP else f"{step[: _LONGEST_STEP - 3]}..." for step in self.path)
        return printable(f"{self.file}: {'.'.join(steps)}" if self.path else self.file)


def read_file(path: Path, file: str) -> Tree:
    """Return the tree in `path`; messages call it `file`. Raises: SpecError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe may wait for ever
            raise SpecError("is a pipe, a socket or a device, and no file", place=printable(file))
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise SpecError(f"cannot be read: {getattr(error, 'strerror', None) or error}", place=printable(file)) from None
    try:
        return read(content.decode("utf-8-sig"), Place(file))
    except UnicodeDecodeError as error:
        raise SpecError(f"is not UTF-8 text (byte {error.start})", place=printable(file)) from None


def read(text: str, place: Place) -> Tree:
    """Return the tree of one YAML document.

    Raises: SpecError naming line and column, or the path of the value that is refused.

    >>> read("{lr: 1e-3, flip: yes, steps: [60, 80]}", Place("p.yaml"))
    {'lr': 0.001, 'flip': 'yes', 'steps': [60, 80]}
    """
    if len(text) > MAX_BYTES:
        raise SpecError(f"is longer than {MAX_BYTES} bytes", place=str(place))
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, place) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets chr() and int() of bad escapes fly
        reason = getattr(error, "reason", None) or "not YAML"
        raise SpecError(f"cannot be read as YAML: {reason}", place=str(place), hint="is it a text file?") from None
    return None if node is None else _tree(node, place)


def dump(tree: Tree) -> str:
    """Return `tree` as YAML that `read` reads back; strings that any YAML would bend are quoted."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120)


def show(value: object) -> str:
    """Return `value` for a message, quoted and shortened.

    >>> show([1, None]), show("a" * 100) == "`" + "a" * 57 + "...`"
    ('`[1, null]`', True)
    """
    text = printable(value if isinstance(value, str) else json.dumps(value, default=str))
    return f"`{text}`" if len(text) <= _SHOWN else f"`{text[: _SHOWN - 3]}...`"


def mapping(value: Tree, place: Place) -> dict[str, Tree]:
    """Return `value`, a mapping; nothing at all counts as an empty one. Raises: SpecError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SpecError(f"expected a mapping, got {show(value)}", place=str(place))
    return value


def text(value: Tree, place: Place) -> str:
    """Return `value`, a line of text. Raises: SpecError."""
    if not isinstance(value, str) or "\n" in value:
        raise SpecError(f"expected one line of text, got {show(value)}", place=str(place))
    return value


def only(value: Mapping[str, Tree], known: Collection[str], place: Place) -> None:
    """Refuse keys of `value` that are not `known`. Raises: SpecError."""
    for key in value:
        if key not in known:
            raise SpecError(
                f"no key here is called {show(key)}", place=str(place.at(key)), hint=did_you_mean(key, known)
            )


_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
_RESOLVERS = {  # YAML 1.2.2, section 10.3.2 (core schema), less octal, hexadecimal, infinity and not-a-number
    _NULL: (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    _BOOL: (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    _INT: (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    _FLOAT: (re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
}


class _Loader(yaml.SafeLoader):
    """Composes nodes: no anchors, no aliases, no deep nesting."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's way; not YAML 1.1's
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # of types-PyYAML
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not used here", problem_mark=event.start_mark)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=event.start_mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would not read as text; writes no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _syntax_error(error: yaml.MarkedYAMLError, place: Place) -> SpecError:
    mark = error.problem_mark or error.context_mark
    where = place if mark is None else Place(f"{place}: line {mark.line + 1}, column {mark.column + 1}")
    return SpecError(printable(error.problem or error.context or "not YAML"), place=str(where))


def _tree(node: yaml.Node, place: Place) -> Tree:
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(node, place)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_tree(item, place.at(str(index))) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, place)
    raise SpecError(f"the tag {show(node.tag)} is not used here", place=str(place), hint="leave the tag away")


def _mapping(node: yaml.MappingNode, place: Place) -> dict[str, Tree]:
    tree: dict[str, Tree] = {}
    for key_node, value_node in node.value:
        key = _tree(key_node, place)
        if not isinstance(key, str) or not key.isprintable():
            hint = "quote it" if not isinstance(key, list | dict) else ""
            raise SpecError(f"a key must be one line of text, got {show(key)}", place=str(place), hint=hint)
        if key in tree:
            line = key_node.start_mark.line + 1
            raise SpecError(f"this key is given twice, again on line {line}", place=str(place.at(key)))
        tree[key] = _tree(value_node, place.at(key))
    return tree


def _scalar(node: yaml.ScalarNode, place: Place) -> Tree:
    value: str = node.value
    if node.tag not in (*_RESOLVERS, _STR):
        raise SpecError(f"the tag {show(node.tag)} is not used here", place=str(place), hint="leave the tag away")
    if node.tag == _STR:
        if not all(c.isprintable() or c in "\n\t" for c in value):
            raise SpecError(f"control characters are not used here, got {show(value)}", place=str(place))
        return value
    if not _RESOLVERS[node.tag][0].match(value):  # only after an explicit tag: `!!int abc`
        raise SpecError(f"{show(value)} is not of type {show(node.tag.rpartition(':')[2])}", place=str(place))
    if node.tag == _NULL:
        return None
    return value.lower() == "true" if node.tag == _BOOL else _number(value, place, whole=node.tag == _INT)


def _number(value: str, place: Place, *, whole: bool) -> int | float:
    is_short = not whole or len(value.lstrip("+-0")) <= _MOST_DIGITS  # int() refuses thousands of digits
    number = (int(value) if whole else float(value)) if is_short else math.inf
    if not math.isfinite(number) or (whole and not -(2**63) <= number < 2**63):
        raise SpecError(f"the number {show(value)} is too large", place=str(place))
    return number
