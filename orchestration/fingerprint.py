"""Params as canonical JSON: the fingerprint of a stage, and what tells two sets of params apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

_MOST_CHARACTERS = 40  # of a value in a difference


def fingerprint(
    kind: str, params_json: Mapping[str, Any], *, results_version: int, digest: str, inputs: Iterable[str]
) -> str:
    """Return 16 hex digits of the sha256 of all that decides a stage's numbers; `inputs` are fingerprints in any order.

    Raises: TypeError for what JSON cannot hold or would bend (a key that is not text), ValueError for NaN and infinity.

    >>> one = fingerprint("linear", {"epochs": 30}, results_version=1, digest="d", inputs=["a", "b"])
    >>> one == fingerprint("linear", {"epochs": 30.0}, results_version=1, digest="d", inputs=["b", "a"])
    True
    """
    return digest_of([kind, params_json, results_version, digest, sorted(inputs)])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the leaves that differ, as "settings.temperature 0.2 -> 0.1"."""
    old, new = _leaves(before), _leaves(after)
    return [
        f"{path} {_short(old.get(path, 'unset'))} -> {_short(new.get(path, 'unset'))}"
        for path in {**new, **old}
        if old.get(path) != new.get(path)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return canonical JSON by dotted path."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = json.dumps(_canonical(value), sort_keys=True)
    return leaves


def _short(value: str) -> str:
    value = value.strip('"')
    return value if len(value) <= _MOST_CHARACTERS else value[: _MOST_CHARACTERS - 3] + "..."


def digest_of(tree: object) -> str:
    """Return 16 hex digits of the sha256 of canonical JSON. Raises: TypeError, ValueError."""
    text = json.dumps(_canonical(tree), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(tree: object) -> object:
    """Return `tree` with 30.0 as 30, and refuse keys that JSON would turn into text."""
    if isinstance(tree, Mapping):
        for key in tree:
            if not isinstance(key, str):
                raise TypeError(f"a key of params must be text, not {key!r}")
        return {key: _canonical(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_canonical(value) for value in tree]
    return int(tree) if isinstance(tree, float) and tree.is_integer() else tree
