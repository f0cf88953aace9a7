"""A secret is named, never written: `{env: NAME}` or `{file: PATH}`. Nothing here puts its value into a message."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from pydantic import BaseModel

from jobs.contract import FROZEN
from orchestration.document import Place, Tree, printable
from orchestration.errors import LeoclrOpsError, SpecError
from orchestration.storage import expanded

_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")  # upper case only: a pasted secret hardly ever passes for a name
_FORMS = "name an environment variable, `{env: NAME}`, or a file that only you can read, `{file: PATH}`"


class SecretProblem(LeoclrOpsError):
    """A secret is not where its profile says, or others can read it."""


class Secret(BaseModel):
    """Where a secret is. Exactly one of the two is given; `read` looks it up."""

    model_config = FROZEN

    env: str | None = None  # an environment variable of this machine
    file: Path | None = None  # absolute, or below the home folder: `~/.ray/auth_token`

    @property
    def where(self) -> str:
        """The place in words; never the value.

        >>> Secret(env="RAY_AUTH_TOKEN").where
        '$RAY_AUTH_TOKEN'
        """
        return f"${self.env}" if self.env else printable(str(self.file))

    def value(self) -> str:
        """Return the secret itself, without spaces and line ends around it.

        Raises: SecretProblem where it is not set, empty, not one line, or in a file that others can read.
        """
        found = (os.environ.get(self.env, "") if self.env else _content(expanded(self.file or "", self.where))).strip()
        if not found:
            hint = f"export {self.env}=..." if self.env else f"write it there, then chmod 600 {self.where}"
            raise SecretProblem("is not set" if self.env else "is empty", place=self.where, hint=hint)
        if not found.isascii() or not found.isprintable():
            raise SecretProblem("is not one line of ASCII text", place=self.where, hint="was a whole file put there?")
        return found


def check(tree: Tree, place: Place) -> None:
    """Refuse everything but a reference to a secret; what was written instead may be one, and is not shown.

    Raises: SpecError.
    """
    if not isinstance(tree, dict) or len(tree) != 1 or next(iter(tree)) not in ("env", "file"):
        raise SpecError("a secret is never written into a profile", place=str(place), hint=_FORMS)
    ((form, value),) = tree.items()
    if form == "env" and not (isinstance(value, str) and _NAME.fullmatch(value)):
        hint = "upper-case letters, digits and _; " + _FORMS
        raise SpecError("this is not the name of an environment variable", place=str(place.at(form)), hint=hint)
    if form == "file" and not (isinstance(value, str) and value.startswith(("/", "~/"))):
        raise SpecError("this is not an absolute path", place=str(place.at(form)), hint="begin it with / or ~/")


def _content(path: Path) -> str:
    place = printable(str(path))
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())  # of what was opened: no other file can be put there meanwhile
            if stat.S_IMODE(status.st_mode) & 0o077:
                mode = f"{stat.S_IMODE(status.st_mode):o}"
                raise SecretProblem(f"others can read it (mode {mode})", place=place, hint=f"chmod 600 {place}")
            return stream.read(1 << 16).decode()
    except OSError as error:
        raise SecretProblem(f"cannot be read: {error.strerror or error}", place=place) from None
    except UnicodeDecodeError:
        raise SecretProblem("is not text", place=place) from None
