"""What a driver knows of itself when it runs as a job that was sent to a cluster: its environment says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

JOB, CLUSTER, PROFILE, RUN, COMMIT = (
    f"LEOCLR_OPS_{name}" for name in ("JOB", "CLUSTER", "PROFILE", "RUN", "COMMIT")
)  # variables of a job: its id, the profile's name, a copy of the profile, a run to continue, the commit of the code


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """The job that this process is."""

    id: str
    cluster: str  # name of the profile that sent it
    profile: Path | None  # a copy of that profile; it holds no secret
    run: str | None  # the submission that is to be continued

    @property
    def texts(self) -> dict[str, str]:
        """What is kept with a run of this job, by file name."""
        return {"cluster.yaml": self.profile.read_text(encoding="utf-8")} if self.profile else {}

    def variables(self) -> dict[str, str]:
        """Return the environment that `current` reads back."""
        found = {JOB: self.id, CLUSTER: self.cluster, RUN: self.run or ""}
        return {name: value for name, value in {**found, PROFILE: str(self.profile or "")}.items() if value}


def current(environment: Mapping[str, str] | None = None) -> ClusterJob | None:
    """Return the job that this process is; None where nobody sent it.

    >>> sent = ClusterJob("quickstart-0a1b-1", "local", None, None)
    >>> current(sent.variables()) == sent, current({}) is None
    (True, True)
    """
    found = os.environ if environment is None else environment
    if not found.get(JOB):
        return None
    profile = found.get(PROFILE)
    return ClusterJob(found[JOB], found.get(CLUSTER, ""), Path(profile) if profile else None, found.get(RUN))
