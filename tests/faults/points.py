"""Where a submission changes the world: every such point has a name, and this process can be made to end at any.

Points are seen from outside, by Python's audit events and MLflow's public methods: the product holds no hook. A point
is the moment before a change. What is between two points changes nothing that another process can see.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137  # the exit code of a process that SIGKILL ended
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
WRITES = ("create_", "log_", "set_", "update_", "delete_", "initialize_", "finalize_", "restore_")  # of MlflowClient
_RANDOM = (
    (re.compile(r"[0-9a-f]{32}"), "RUN"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "STAGE"),
    (re.compile(r"m-[0-9a-f]{32}"), "MODEL"),
    (re.compile(r"(\.(?:draft|result)-)\d+"), r"\1PID"),
    (re.compile(r"(/\.[\w.]+)\.[a-z0-9_]{8}\b"), r"\1.RANDOM"),
    (re.compile(r"tmp[a-z0-9_]{8}"), "TEMPORARY"),
)

Ending = tuple[str, int]  # a point's name, and at which of its visits the process ends; 1 is the first


def nameless(name: str) -> str:
    """Return a name with words in place of what differs from run to run."""
    for pattern, word in _RANDOM:
        name = pattern.sub(word, name)
    return name


class _Call(threading.local):
    """What this thread asks MLflow for."""

    call = ""
    commits = 0
    is_changing = False


class Points:
    """Counts the visits of points below a folder, and ends the process at one."""

    def __init__(self, folder: Path, end_at: Ending | None) -> None:
        self._root, self._end_at, self._is_counting = f"{folder}{os.sep}", end_at, True
        self.visits: Counter[str] = Counter()
        self.order: list[Ending] = []
        self._own = _Call()

    def watch(self) -> None:
        """Count from now on: what Python does to files, what MLflow is asked, what its database commits."""
        from mlflow.tracking import MlflowClient
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        sys.addaudithook(self._heard)
        for name in dir(MlflowClient):
            if name.startswith(WRITES):
                setattr(MlflowClient, name, self._counted(f"mlflow {name}", getattr(MlflowClient, name)))
        event.listen(Engine, "before_cursor_execute", self._executed)
        event.listen(Engine, "commit", self._committed)

    def stop(self) -> None:
        """Count no more."""
        self._is_counting = False

    def _executed(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._own.is_changing |= statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE")

    def _committed(self, _connection: Any) -> None:
        """Count what an MLflow call commits after its first change: before that, nothing has happened yet."""
        if self._own.is_changing:
            self._own.commits += 1
            if self._own.commits > 1:
                self._visit(f"commit in {self._own.call}")
        self._own.is_changing = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _writes(arguments):
            self._file("write", arguments[:1])
        elif event in CHANGES:
            self._file(event.removeprefix("os."), _absolute(arguments))

    def _file(self, what: str, arguments: tuple[Any, ...]) -> None:
        paths = [os.fsdecode(path) for path in arguments if isinstance(path, str | bytes | os.PathLike)]
        if any(path.startswith(self._root) for path in paths) and _changes(what, paths[0]):
            self._visit(" ".join([what, *(path.removeprefix(self._root) for path in paths)]))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self._visit(name)
            self._own.call, self._own.commits = name, 0
            return method(*arguments, **named)

        return counted

    def _visit(self, name: str) -> None:
        if not self._is_counting:
            return
        name = nameless(name)
        self.visits[name] += 1
        here = name, self.visits[name]
        self.order.append(here)
        if here == self._end_at:
            os._exit(KILLED)  # as SIGKILL: no handler runs, no buffer is written


def _absolute(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the paths of an event; one that is relative to an open folder, as `shutil.rmtree` has them, made whole."""
    first, last = arguments[0], arguments[-1]
    if isinstance(last, int) and last >= 0 and len(arguments) == 2:
        return (str(Path(f"/proc/self/fd/{last}").readlink() / os.fsdecode(first)),)
    return arguments[:2]


def _changes(what: str, path: str) -> bool:
    """Return whether an event changes anything: a folder may be there already, a file gone."""
    return os.path.lexists(path) == (what != "mkdir") or what == "write"


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = (*arguments, None, None)[:3]
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
