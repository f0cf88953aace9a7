"""How a sweep and its trials are tagged in the tracking store. Pure.

the sweep's run          role "sweep", title, owner, as a submission has them
  a trial's run          a submission with the tags below, under the sweep's run
    a stage's run        as in any submission
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestration import records
from orchestration.provenance import Owner

TRIAL = "leoclr.trial"  # number of a trial
STOPPED = "leoclr.stopped"  # of a trial that a scheduler stopped: by which rule and when


def sweep_tags(name: str, *, title: str, owner: Owner, now_ms: int) -> dict[str, str]:
    """Return the tags of the run of a sweep; `records.submission` reads them back, as one without arms."""
    return {
        records.ROLE: "sweep",
        records.RUN_NAME: name,
        records.PIPELINE: name,
        records.TITLE: title[: records.MAX_TAG],
        records.HOST: owner.host,
        records.PID: str(owner.pid),
        records.PID_CREATED: repr(owner.created),
        records.HEARTBEAT_MS: str(now_ms),
    }


def trial_tags(sweep: str, *, parent: str, number: int, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a submission has besides its own because it is a trial."""
    tags = {records.PARENT: parent, records.SWEEP: sweep, TRIAL: str(number)}
    tags[records.RUN_NAME] = trial_name(number, labels)
    return tags | {records.AXIS + axis: label[: records.MAX_TAG] for axis, label in labels.items()}


def trial_name(number: int, labels: Mapping[str, str]) -> str:
    """Return what a trial is called.

    >>> trial_name(3, {"method": "leoclr", "temperature": "0.1"})
    '3 leoclr temperature=0.1'
    """
    words = [label if axis == "method" else f"{axis}={label}" for axis, label in labels.items()]
    return " ".join([str(number), *words])[:250]
