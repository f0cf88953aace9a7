"""Where a run comes from: package versions, git commit, and the process that owns it."""

from __future__ import annotations

import functools
import json
import os
import platform
import socket
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from orchestration.cluster import job

PACKAGES = ("leoclr-ops", "torch", "torchvision", "ray", "mlflow")
CLOCK_SLACK_S = 2.0  # psutil derives a start time from the boot time, which moves when the clock is corrected
GIT_TIMEOUT_S = 10.0


@functools.cache
def versions() -> dict[str, str]:
    """Return the version of Python and of each package that can move a number, read without importing any."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def commit(file: Path = Path(__file__)) -> str:
    """Return the git commit that `file` belongs to, with "-dirty" where tracked files differ from it; else "unknown".

    A file that git does not track, such as an installed package inside somebody's repository, has no commit; code that
    was sent to a cluster has the one that it was sent with.
    """
    if _git(file, "ls-files", "--error-unmatch", file.name) is None or not (head := _git(file, "rev-parse", "HEAD")):
        return os.environ.get(job.COMMIT) or "unknown"
    return head + ("-dirty" if _git(file, "status", "--porcelain", "--untracked-files=no") else "")


def environment() -> str:
    """Return commit and versions as JSON."""
    return json.dumps({"git_commit": commit(), "versions": versions()}, indent=1)


def _git(file: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(file.parent), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # the words are ours
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here, or one that hangs on a broken mount
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a submission. A process id is used again one day: the time it began tells two apart."""

    host: str  # as the host calls itself; of a job "id@host", since other containers there may have the same name
    pid: int
    created: float  # Unix time, s

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        sent = job.current()
        host = f"{sent.id}@{socket.gethostname()}" if sent else socket.gethostname()
        return cls(host, os.getpid(), psutil.Process().create_time())

    def alive(self) -> bool | None:
        """Return whether the process still exists; None where another host would have to say."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_SLACK_S
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
