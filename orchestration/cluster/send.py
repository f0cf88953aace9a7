"""A pipeline becomes a job of a cluster: our own command, run on its head through Ray's Jobs API.

The id of a job is made of what is sent, so that the same command finds the job that it started before: after a lost
reply, from another terminal, or a day later. An attempt that is over is followed by one with the next number. What a
job was sent for is never judged by the job, but by the results of its stages.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestration import provenance
from orchestration.cluster import api, job, package
from orchestration.cluster.api import ClusterProblem
from orchestration.cluster.job import ClusterJob
from orchestration.cluster.profile import ClusterProfile

PROFILE = "cluster.yaml"  # the copy of the profile beside the files of a job
COMMAND = ("python", "-m", "orchestration")
STOP_WAIT_S = 30  # that Ray leaves a job to end by itself; its 3 s are too few to tell MLflow of many stages
MOST_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be run: files by name, and the words of our command that reads them."""

    name: str  # of the pipeline or sweep
    words: tuple[str, ...]
    files: Mapping[str, str]
    run: str | None = None  # a submission's run that is continued

    @property
    def digest(self) -> str:
        """What tells it from all others; the code is no part of it."""
        said = json.dumps([self.words, dict(self.files), self.run], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def job_id(self, attempt: int) -> str:
        """Return the id of a job that runs it.

        >>> Parcel("quickstart", ("submit", "pipeline.yaml"), {}).job_id(2)
        'quickstart-160c00705eb9-2'
        """
        return f"{self.name[:40].strip('.-_')}-{self.digest}-{attempt}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A job that runs a parcel."""

    id: str
    is_new: bool  # False: it was started before, and runs


def send(profile: ClusterProfile, parcel: Parcel) -> Sent:
    """Start a job that runs `parcel`, unless one does already.

    Raises: LeoclrOpsError when the cluster is not there, refuses it, or a secret that is to be sent is not set.
    """
    for attempt in range(1, MOST_ATTEMPTS):
        known = api.find(profile, job_id := parcel.job_id(attempt))
        if known and not known.is_over:
            return Sent(job_id, is_new=False)
        if known is None:
            return Sent(job_id, is_new=_start(profile, parcel, job_id))
    raise ClusterProblem(f"{MOST_ATTEMPTS} attempts of it are over", hint="ray job delete removes old ones")


def entrypoint(words: tuple[str, ...]) -> str:
    """Return the line that a shell of the head runs.

    >>> entrypoint(("submit", "pipeline.yaml", "--set", "title=a; b"))
    "python -m orchestration submit pipeline.yaml --set 'title=a; b'"
    """
    return shlex.join((*COMMAND, *words))


def runtime(profile: ClusterProfile, sent: ClusterJob, package_uri: str) -> dict[str, object]:
    """Return what driver and workers find around them. Raises: SecretProblem for a secret that is to be sent."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **profile.variables(), **sent.variables()}
    code = profile.environment.code
    if code != "image" and (commit := provenance.commit()) != "unknown":
        is_new = code == "working_tree" and package.has_new()
        variables[job.COMMIT] = commit.removesuffix("-dirty") + "-dirty" if is_new else commit
    if profile.environment.send_secrets:
        variables |= {name: secret.value() for name, secret in profile.secrets().items()}
    found: dict[str, object] = {"working_dir": package_uri, "env_vars": variables}
    return found | ({"pip": list(profile.environment.pip)} if profile.environment.pip else {})


def _start(profile: ClusterProfile, parcel: Parcel, job_id: str) -> bool:
    files = {name: text.encode() for name, text in parcel.files.items()}
    files[PROFILE] = profile.source.read_bytes()
    uri = api.upload(profile, *package.pack(files, profile.environment.code))
    sent = ClusterJob(job_id, profile.name, Path(PROFILE), parcel.run)
    python = ".".join(map(str, sys.version_info[:2]))
    facts = {"leoclr-ops": parcel.name, "python": python, "profile": profile.name}
    line = entrypoint(parcel.words)
    return api.submit(profile, job_id, entrypoint=line, runtime=runtime(profile, sent, uri), facts=facts)
