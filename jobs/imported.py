"""A pre-training that was done elsewhere: `method: imported` names the weights, and a file brought them in.

The sha256 of the file alone decides its numbers, so nothing else enters its fingerprint: what a matrix or `--set` gives
to all arms alike (data set, seed, epochs) is taken and left out, as a control leaves out `epochs`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Annotated, Any, cast

import pydantic

from jobs.contract import FORBID, NO_DATA, Params

METHOD = "imported"  # stands where a method's name does; no worker ever runs it
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class ImportedSettings:
    """Which weights."""

    as_method: str  # what trained them; a name of METHODS or any other: swav, supervised
    sha256: str  # of the file as it was published, in hex

    def __post_init__(self) -> None:
        if not is_name(self.as_method):
            raise ValueError("as_method: must be lower-case letters, digits and _ . -, up to 64")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256: must be 64 lower-case hexadecimal digits")


def is_name(text: str) -> bool:
    """Return whether a method can be called so."""
    return _NAME.fullmatch(text) is not None


@functools.cache
def params_type(trained: type[Any]) -> type[Params]:
    """Return the params of an imported pre-training: they take all fields of `trained` and keep none but `settings`."""
    ignored = Annotated[Any, pydantic.Field(exclude=True)]
    names = [field.name for field in dataclasses.fields(trained) if field.name not in ("method", "settings")]
    body: dict[str, Any] = {
        "__annotations__": {**dict.fromkeys(names, ignored), "method": str, "settings": ImportedSettings},
        **dict.fromkeys(names),
        "__post_init__": _forget,
        "__module__": __name__,
        "__doc__": "Params of an imported pre-training.",
    }
    made = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)(type("ImportedParams", (), body))
    return cast(type[Params], made)


def _forget(params: Any) -> None:
    """Keep `method` and `settings`, whatever else was given."""
    for field in dataclasses.fields(params):
        if field.name not in ("method", "settings"):
            object.__setattr__(params, field.name, {"dataset": NO_DATA, "seed": 0}.get(field.name))
