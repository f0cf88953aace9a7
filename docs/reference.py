"""Write docs/reference.md: every field of a pipeline file, with its type, its default, and the reason beside it.

python docs/reference.py > docs/reference.md

All of it is read from the code, where a field, its default and its reason stand on one line; a test compares the page
with the code.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import re
import sys
import tokenize
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import jobs
from jobs.contract import Resources, Retention, Workers
from jobs.pretrain import PretrainParams
from jobs.protocols import EvaluationParams
from leoclr import methods
from leoclr.augment.views import TestView
from leoclr.data import DATASETS
from leoclr.data.contract import Corrupt
from leoclr.evaluate import protocols
from leoclr.evaluate.detection_protocols import SmallDetector
from leoclr.evaluate.detector_settings import DetectorSettings
from leoclr.evaluate.knn import KnnSettings

HEAD = """# Reference

Every field that a stage of a pipeline file can have, its default, and where that comes from; `docs/reference.py` writes
this page from the code. A field without a default must be given. What is in italics is said of another default: that of
the settings from which these take the field. `--set STAGE.FIELD=VALUE` overrides any of them:
`--set linear.params.settings.epochs=10`.

```yaml
stages:
  NAME:                     # `kind: KIND` too, where the name is none of: KINDS
    needs: [OTHER]
    params: {...}           # decide the numbers, and are part of the stage's fingerprint
    resources: {...}        # where and how it runs: no part of it
```
"""
TRAINED = (
    "Where a line begins with *trained by*, a pre-training by that method has these defaults instead of those above."
)
PLAIN = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text", type(None): "null"}
PLURAL = {int: "whole numbers", float: "numbers", str: "texts"}
NAMES = {  # of fields whose values are names
    "dataset": ", ".join(f"`{name}`" for name in DATASETS),
    "method": ", ".join(f"`{name}`" for name in methods.METHODS),
    "protocol": "see below; the first one of its kind where none is named",
    "version": "of the protocol; what another release has is refused",
    "settings": "those of the method, or of the protocol: see below",
}
PARTS = (TestView, KnnSettings, Corrupt, Workers, Retention, DetectorSettings, SmallDetector)  # that fields are made of


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a class, as the page shows it."""

    name: str
    type: str
    default: str
    about: str


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


def page() -> str:
    """Return the page."""
    return "\n".join([*_lines()]).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.replace("KINDS", ", ".join(jobs.STAGES))
    yield from _section(2, "resources", Resources)
    yield from _section(2, "params of pretrain", PretrainParams, "A method's paper may train it otherwise: see there.")
    yield from ["## params.settings of a method", "", TRAINED, ""]
    for name in methods.METHODS:
        module = methods.module(name)
        recipe = ", ".join(f"`{key}: {_shown(value)}`" for key, value in module.RECIPE.items())
        notes = [f"*Trained by* {recipe}."] if recipe else []
        yield from _section(3, name, module.Config, *notes, about=module)
    yield from _section(2, "params of every evaluation", EvaluationParams)
    for kind, known in protocols.PROTOCOLS.items():
        yield from [f"## params.settings of {kind}, by protocol", ""]
        for name in known:
            settings = protocols.settings_type(kind, name)
            yield from _section(3, f"{kind}: {name}", settings, f"Version {settings.VERSION}.")
    yield from ["## What fields are made of", ""]
    for part in PARTS:
        yield from _section(3, part.__name__, part)


def _section(level: int, title: str, cls: Any, *notes: str, about: Any = None) -> Iterator[str]:
    yield from [f"{'#' * level} {title}", "", _first(about or cls), *notes, ""]
    rows = [f"| `{each.name}` | {each.type} | {each.default} | {each.about} |" for each in fields(cls)]
    if rows:
        yield from ["| field | is | default | |", "|---|---|---|---|", *rows, ""]


def fields(cls: Any) -> Iterator[Field]:
    """Yield the fields of a dataclass or of a model, each with what the class says of it that declared it last.

    Where that says nothing of its new default, what is said of the one before it follows in italics.
    """
    hints = get_type_hints(cls)
    comments: dict[str, str] = {}
    for name, said in (pair for each in reversed(cls.__mro__) for pair in _comments(each).items()):
        before = comments.get(name, "").strip("*")
        comments[name] = said or (f"*{before}*" if before else "")
    defaults = dict(_defaults(cls))
    for name in sorted(
        defaults, key=lambda name: defaults[name] is not dataclasses.MISSING
    ):  # what must be given first
        kind, default = NAMES.get(name, ""), defaults[name]
        shown = "" if default is dataclasses.MISSING or kind else f"`{_shown(default)}`"
        yield Field(name, kind or _type(hints[name]), shown.replace("`{}`", "its own"), comments.get(name, ""))


def _defaults(cls: Any) -> Iterator[tuple[str, Any]]:
    missing = dataclasses.MISSING
    if not dataclasses.is_dataclass(cls):
        for name, info in cls.model_fields.items():
            default = info.get_default(call_default_factory=True)
            yield name, missing if default is PydanticUndefined else default
        return
    for field in dataclasses.fields(cls):
        default = field.default_factory() if field.default_factory is not missing else field.default
        yield field.name, default.default if isinstance(default, FieldInfo) else default


@functools.cache
def _comments(cls: type) -> Mapping[str, str]:
    """Return what stands beside the fields that a class declares, or in the lines before them."""
    try:
        source = inspect.cleandoc("\n" + inspect.getsource(cls))
    except (OSError, TypeError):  # of the standard library, or made without source
        return {}
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    notes = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    alone = {line for line, token in notes.items() if not token.line[: token.start[1]].strip()}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            lines = [line for line in range(first, (node.end_lineno or node.lineno) + 1) if line in notes]
            words = " ".join(notes[line].string.lstrip("# ") for line in lines if "noqa" not in notes[line].string)
            found[node.target.id] = _cell(words)
    return found


def _first(about: Any) -> str:
    """Return the first paragraph of a docstring."""
    return _cell(" ".join((inspect.getdoc(about) or "").split("\n\n")[0].split()))


def _type(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin is Literal:
        return ", ".join(f"`{_shown(each)}`" for each in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in args))
    if origin is tuple:
        return f"list of {'' if args[-1] is ... else f'{len(args)} '}{PLURAL.get(args[0]) or _type(args[0])}"
    if hint in PLAIN:
        return PLAIN[hint]
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def _shown(value: Any) -> str:
    """Return a value as a pipeline file has it."""
    if isinstance(value, str):
        return value or '""'
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("...").strip()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = dict(_defaults(type(value)))
        return {n: _plain(getattr(value, n)) for n in changed if getattr(value, n) != changed[n]}
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_defaults=True)
    return [_plain(each) for each in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("<", "&lt;")


if __name__ == "__main__":
    main()
