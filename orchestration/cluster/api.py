"""Ray's Jobs API, as much of it as is needed to send a job, find it again, and end it.

The requests are those of Ray's own client (ray-project/ray, python/ray/dashboard/modules/job/sdk.py and
modules/job/job_head.py, 2.60.0), which waits for ever where a server is silent, and follows redirects with the token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.reach import Answer, Unreachable, ask
from orchestration.document import printable
from orchestration.errors import LeoclrOpsError, NotFound

SLOW_S = 100.0  # a job is accepted once the head's agent answers, for which Ray itself waits 60 s; packages are large
MOST_BYTES = 100 << 20  # of a package: ray.dashboard's own limit of a request's body
ID = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,63}")  # Ray takes any text, and puts it into names of files
OVER = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})


class ClusterProblem(LeoclrOpsError):
    """A cluster refuses what it is asked."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its cluster sees it. How its stages ended is not said here, but by their results."""

    id: str
    status: str  # PENDING, RUNNING, or one of OVER
    message: str
    started_ms: int  # Unix time, by the clock of the head

    @property
    def is_over(self) -> bool:
        return self.status in OVER


def find(profile: ClusterProfile, job_id: str) -> Job | None:
    """Return the job of this id; None where the cluster knows none.

    Raises: ClusterProblem; Unreachable.
    """
    answer = _get(profile, f"/api/jobs/{_safe(job_id)}")
    if answer.status == 404:
        return None
    _require(profile, answer, f"to look for job {job_id}")
    message, started = printable(answer.field("message") or "")[:2000], answer.field("start_time") or "0"
    return Job(job_id, str(answer.field("status") or ""), message, int(started) if started.isdecimal() else 0)


def submit(
    profile: ClusterProfile, job_id: str, *, entrypoint: str, runtime: Mapping[str, Any], facts: Mapping[str, str]
) -> bool:
    """Start a job; True where it is new, False where one of this id was there. Asked twice, it is started once.

    Raises: ClusterProblem; Unreachable.
    """
    body = {"entrypoint": entrypoint, "submission_id": _safe(job_id), "runtime_env": runtime, "metadata": facts}
    try:
        answer = ask(f"{profile.address}/api/jobs/", profile.headers(), post=body, timeout_s=SLOW_S)
    except Unreachable:
        if find(profile, job_id):  # it came there, and only the answer was lost
            return True
        raise
    if answer.status == 200:
        return True
    if find(profile, job_id):  # Ray says so with status 500 and the text of a traceback
        return False
    _require(profile, answer, "to start a job")
    raise AssertionError("a status of 200 came back above")


def stop(profile: ClusterProfile, job_id: str) -> bool:
    """Ask a job to end; False where it does not run. Raises: NotFound; ClusterProblem; Unreachable."""
    address = f"{profile.address}/api/jobs/{_safe(job_id)}/stop"
    answer = ask(address, profile.headers(), post={}, timeout_s=SLOW_S)
    if answer.status == 404:
        raise NotFound(f"the cluster {profile.name} knows no job {job_id}")
    _require(profile, answer, f"to stop job {job_id}")
    return answer.field("stopped") == "True"


def last_words(profile: ClusterProfile, job_id: str, lines: int = 20) -> str:
    """Return the last lines that a job printed; "" where there is none. Raises: ClusterProblem; Unreachable."""
    answer = _get(profile, f"/api/jobs/{_safe(job_id)}/logs")
    text = answer.field("logs") or "" if answer.status == 200 else ""
    return "\n".join(printable(line) for line in text.splitlines()[-lines:])


def upload(profile: ClusterProfile, name: str, content: bytes) -> str:
    """Keep a package in the cluster unless it is there already; return its address for a runtime environment.

    Raises: ClusterProblem; Unreachable.
    """
    if len(content) > MOST_BYTES:
        fact = f"{len(content) / 1e6:.0f} MB are more than the {MOST_BYTES >> 20} MB that Ray takes"
        raise ClusterProblem(fact, place="environment.code", hint="put the code into the nodes' image: `code: image`")
    address = f"{profile.address}/api/packages/gcs/{_safe(name)}"
    if ask(address, profile.headers(), timeout_s=SLOW_S).status != 200:
        _require(profile, ask(address, profile.headers(), put=content, timeout_s=SLOW_S), "to take our files")
    return f"gcs://{name}"


def _get(profile: ClusterProfile, path: str) -> Answer:
    return ask(profile.address + path, profile.headers(), timeout_s=SLOW_S)


def _safe(name: str) -> str:
    if not ID.fullmatch(name):
        raise ClusterProblem(f"{printable(name)!r} is not the id of a job", hint="a-z, 0-9 and . _ -, up to 64")
    return name


def _require(profile: ClusterProfile, answer: Answer, wish: str) -> None:
    """Raises: ClusterProblem unless the answer is that all is well."""
    if answer.status == 200:
        return
    if answer.status in (401, 403):
        fact = "asks for a token" if answer.status == 401 else "refuses the token"
        hint = f"leoclr-ops doctor --cluster {profile.name}"
        raise ClusterProblem(f"{profile.address} {fact}", hint=hint)
    lines = [line for line in answer.text.splitlines() if line.strip()] or [""]
    fact = f"{profile.address} refuses {wish}: {answer.status} {printable(lines[-1])[:300]}".rstrip()
    raise ClusterProblem(fact, hint=f"leoclr-ops doctor --cluster {profile.name}; the head's dashboard_agent.log")
