"""End the runs that nobody runs: MLflow shows a killed one as running for ever."""

from __future__ import annotations

import time

from orchestration import records
from orchestration.records import Submission
from orchestration.tracking import Store

SILENCE_S = 90.0  # without a heartbeat, after which a submission on another host is taken for dead


def reconcile(store: Store) -> list[str]:
    """End every run that is recorded as running though its process is gone; return their ids, stages first.

    A submission of this host is judged by its process, one of another host by its heartbeat. A stage is judged by its
    submission. What is ended counts as stopped when it last gave a sign of life. An attempt that began after it was
    looked at here is left alone.
    """
    submissions, stages = store.running()
    now_ms = time.time_ns() // 1_000_000
    dead = {each.run_id: reason for each in submissions if (reason := _death(each, now_ms))}
    last_sign = {each.run_id: each.heartbeat_ms for each in submissions}
    alive = last_sign.keys() - dead.keys()
    orphans = [stage for stage in stages if stage.parent not in alive]
    for stage in orphans:
        reason = dead.get(stage.parent, "its submission has ended")
        attempt = stage.tags.get(records.ATTEMPT_MS)
        attempt_ms = int(attempt) if attempt else None
        sign_ms = last_sign.get(stage.parent)
        store.end(stage.run_id, "KILLED", reason=reason, ended_ms=sign_ms, attempt_ms=attempt_ms)
    for each in submissions:
        if reason := dead.get(each.run_id, ""):
            sign_ms = each.heartbeat_ms
            store.end(each.run_id, "KILLED", reason=reason, ended_ms=sign_ms, attempt_ms=each.attempt_ms)
    return [*(stage.run_id for stage in orphans), *dead]


def _death(submission: Submission, now_ms: int) -> str:
    """Return how we know that nobody runs a submission any more; "" if it may be alive."""
    owner = submission.owner
    alive = owner.alive()
    silent_s = (now_ms - submission.heartbeat_ms) / 1000
    if alive is False:
        return f"process {owner.pid} on {owner.host} is gone"
    if alive is None and silent_s > SILENCE_S:
        return f"no sign of life from {owner.host} for {silent_s:.0f} s"
    return ""
