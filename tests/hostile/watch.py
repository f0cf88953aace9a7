"""What hostile input must not do, watched while it is read: start a program, reach out, write elsewhere, take for ever.

Python's own audit events tell of each; a hook cannot be taken away again, so there is one, that sleeps.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leoclr.data.contract import DataError
from leoclr.formats import FormatError
from orchestration.errors import LeoclrOpsError, render

MOST_S = 5.0  # of a processor's time, for one input
MOST_BYTES = 700 << 20  # that the process may grow by while it reads; the largest honest input takes a tenth of it
MOST_CHARACTERS = 4000  # of a message: a line that repeats a megabyte back says nothing
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen", "pty.spawn")
_REACHES = ("socket.connect", "socket.bind", "socket.sendto", "urllib.Request", "ftplib.connect", "smtplib.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_state: dict[str, object] = {"root": None, "seen": []}


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    root = _state["root"]
    if root is None:
        return
    if event in _STARTS or event in _REACHES:
        _note(f"{event} {arguments[:2]!r}")
    elif event == "open" and _writes(arguments):
        _place(event, arguments[0], Path(str(root)))
    elif event in _CHANGES:
        first = 1 if event in ("os.link", "os.symlink") else 0  # what a link names is not changed by it
        for each in arguments[first : 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            _place(event, each, Path(str(root)))


def _writes(arguments: tuple[object, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def _place(event: str, path: object, root: Path) -> None:
    if isinstance(path, int) or path is None:
        return
    where = Path(os.path.abspath(os.fsdecode(path)))  # type: ignore[arg-type]  # noqa: PTH100  # links are not followed
    if not where.is_relative_to(root) and "__pycache__" not in where.parts and where != Path(os.devnull):
        _note(f"{event} {where}")


def _note(what: str) -> None:
    seen = _state["seen"]
    assert isinstance(seen, list)
    seen.append(what)


sys.addaudithook(_hook)


@contextmanager
def watched(root: Path) -> Iterator[None]:
    """Raise AssertionError when the block starts a program, reaches out, or changes a file outside of `root`."""
    _state["root"], _state["seen"] = root, []
    kept, tempfile.tempdir = tempfile.tempdir, str(root)  # what is written for a moment is written there
    try:
        yield
    finally:
        _state["root"], tempfile.tempdir = None, kept
    assert _state["seen"] == [], _state["seen"]


def outcome(read: Callable[[], object], root: Path) -> str:
    """Return "accepted" or "refused"; anything else that comes of reading flies.

    Refused is one error of ours that says what and where, in lines that a terminal shows as they are.
    """
    began, before = time.process_time(), _grown()
    try:
        with watched(root), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
        said = None
    except LeoclrOpsError as error:
        said = render(error)
    except (DataError, FormatError) as error:  # which the command line turns into one of the above
        said = render(LeoclrOpsError(str(error), hint=error.hint))
    took, grown = time.process_time() - began, _grown() - before
    assert took < MOST_S, f"{took:.1f} s"
    assert grown < MOST_BYTES, f"{grown / 1e6:.0f} MB"
    if said is None:
        return "accepted"
    assert all(c.isprintable() or c == "\n" for c in said), repr(said)
    assert 0 < len(said.strip()) < MOST_CHARACTERS, len(said)
    return "refused"


def _grown() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
