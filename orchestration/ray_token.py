"""The token of Ray clusters that begin on this machine, in a file that only its owner can read.

Ray 2.60 makes it when it first starts, for everybody to read: `open(token_path, "w")` in its
_private/authentication/authentication_token_setup.py. Who has it can run code in each cluster of this user.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

ELSEWHERE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # who sets one of these has a token of their own


def keep_private() -> None:
    """Make the token unless there is one, and close its file to others; before Ray is imported.

    A home folder that is none, or cannot be written, is left to Ray, which says so.
    """
    if any(os.environ.get(name) for name in ELSEWHERE) or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    try:
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        found = path.stat()
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o600)
    except (OSError, RuntimeError):  # the latter: nobody knows where it is
        return


def _create(path: Path) -> None:
    """Write a token whole or not at all: another process may do the same at the same time, and one of them wins."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32))  # 256 bits, as Ray's own
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
