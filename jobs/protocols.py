"""Params of an evaluation: a protocol by name, its version, and what a pipeline sets differently in it.

    params: {dataset: cifar10, protocol: moco}                             the published protocol
    params: {dataset: cifar10, protocol: moco, settings: {epochs: 10}}     changed, and recorded as changed

A file may pin `version`: it is refused when this release's protocol is another one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, cast

import pydantic

from jobs.contract import FORBID, Params
from leoclr.data.contract import Corrupt
from leoclr.evaluate import protocols


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class EvaluationParams:
    """Params of every evaluation; the type of `settings` is the protocol's own."""

    dataset: str
    seed: int = 0
    protocol: str = ""
    version: int = 0
    settings: Any = None
    corrupt: Corrupt = Corrupt()  # what happens at an image that cannot be decoded


def params_type(kind: str, raw: Mapping[str, Any]) -> type[EvaluationParams]:
    """Return the params of stage `kind` with the protocol that `raw` names, or the kind's default."""
    known = protocols.PROTOCOLS[kind]
    name = raw.get("protocol", next(iter(known)))
    return _typed(kind, name) if isinstance(name, str) and name in known else _unknown(kind)


def title(kind: str, params: Params) -> str:
    """Return the protocol of an evaluation in words, "" for a stage without one; `params` are checked ones.

    >>> from pydantic import TypeAdapter
    >>> raw = {"dataset": "digits", "protocol": "clsa", "settings": {"epochs": 10}}
    >>> title("linear", TypeAdapter(params_type("linear", raw)).validate_python(raw))
    'clsa 1, changed: epochs'
    """
    if not isinstance(params, EvaluationParams):
        return ""
    changed = protocols.changed(kind, params.protocol, params.settings)
    return f"{params.protocol} {params.version}" + (f", changed: {', '.join(changed)}" if changed else "")


@functools.cache
def _typed(kind: str, name: str) -> type[EvaluationParams]:
    settings = protocols.settings_type(kind, name)
    return _derive(
        {"protocol": Literal[name], "version": Literal[settings.VERSION], "settings": settings},
        {
            "protocol": name,
            "version": settings.VERSION,
            "settings": dataclasses.field(default_factory=settings),
        },
    )


@functools.cache
def _unknown(kind: str) -> type[EvaluationParams]:
    """Return params that accept the known names alone: checking them says which those are."""
    names = tuple(protocols.PROTOCOLS[kind])
    return _derive({"protocol": Literal[names]}, {"protocol": names[0]})


def _derive(annotations: dict[str, Any], defaults: dict[str, Any]) -> type[EvaluationParams]:
    fields = {**defaults, "__annotations__": annotations, "__module__": __name__, "__doc__": EvaluationParams.__doc__}
    plain = type("EvaluationParams", (EvaluationParams,), fields)
    made = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)(plain)
    return cast(type[EvaluationParams], made)
