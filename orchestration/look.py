"""What is going on: the status of submissions and the logs of their stages.

The store is reconciled before it is believed: a submission whose process is gone is stopped, whatever MLflow says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from orchestration import announced, records
from orchestration.errors import NotFound, StoreError
from orchestration.reconcile import reconcile
from orchestration.records import StageRun, Submission
from orchestration.storage import Home
from orchestration.tails import LOG, Artifact, File, Source, Tail
from orchestration.tracking import Store

Word = Literal["running", "done", "reused", "failed", "stopped", "diverged"]
WORDS: dict[str, Word] = {"RUNNING": "running", "FINISHED": "done", "FAILED": "failed", "KILLED": "stopped"}

TAIL_BYTES = 1 << 16  # of a journal: hundreds of lines, of which the last with progress counts
RECENT = 10  # submissions that a status without a name shows
POLL_S = 0.5  # between two looks at a log that is followed


@dataclass(frozen=True, slots=True)
class StageLook:
    """One stage of one arm; `fraction` is in [0, 1]."""

    run_id: str
    name: str
    kind: str
    arm: str
    state: Word
    fraction: float
    epoch: int
    epochs: int
    seconds: float  # of all attempts together
    metrics: dict[str, float]
    reason: str  # why it failed or stopped


@dataclass(frozen=True, slots=True)
class SubmissionLook:
    """One submission; stages that it has not begun are not in `stages`."""

    run_id: str
    pipeline: str
    title: str
    state: Word
    started_ms: int  # Unix time
    seconds: float  # since it was last continued
    host: str
    stages: tuple[StageLook, ...]


def status(store: Store, home: Home, reference: str | None = None) -> list[SubmissionLook]:
    """Return what runs and the newest `RECENT` others, the last continued first, or what `reference` names.

    `reference` is the run of a submission or of a stage of it. Raises: NotFound when there is no such run.
    """
    reconcile(store)
    submissions = _recent(store) if reference is None else [find(store, reference)[0]]
    runs = store.stage_runs(sorted({run for submission in submissions for run in submission.run_ids}))
    return [_look(submission, runs, home, now_ms=time.time() * 1000) for submission in submissions]


def _recent(store: Store) -> list[Submission]:
    """Return the newest, then others that run for long already."""
    newest = store.submissions(newest=RECENT)
    known = {each.run_id for each in newest}
    return newest + [each for each in store.submissions(running=True) if each.run_id not in known]


def to_json(look: SubmissionLook) -> dict[str, object]:
    """Return `look` as JSON takes it; a number that is not finite becomes null."""
    fields = asdict(look)
    for stage in fields["stages"]:
        stage["metrics"] = {key: value if math.isfinite(value) else None for key, value in stage["metrics"].items()}
    return fields


def find(store: Store, reference: str) -> tuple[Submission, str | None]:
    """Return the submission that `reference` means, and the run of a stage if it means that: the one that ran it last.

    A reference is a run id, the first characters of one, or the id of a job that was sent to a cluster.
    Raises: NotFound when there is no such run.
    """
    if "-" in reference:
        if (sent := store.of_job(reference)) is None:
            hint = "it may be waiting, or have failed before: the cluster's dashboard, or the same submit again, tells"
            raise NotFound("no such job has opened a run", place=f"job {reference}", hint=hint)
        return sent, None
    run_id = store.find(reference)
    if submission := store.submission(run_id):
        return submission, None
    stage = store.stage_runs([run_id]).get(run_id)
    if stage and (submission := store.submission(stage.parent)):
        return submission, run_id
    raise NotFound("no submission has such a run", place=f"run {run_id}", hint="`leoclr-ops status` lists them")


def progress_of(journal: Path) -> tuple[int, int, float]:
    """Return (epoch, epochs, fraction) of the last whole line of a journal that has them; zeros where none has."""
    try:
        with journal.open("rb") as file:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            # Behind the last newline a line is being written; before the first one the reading began inside a line.
            lines = file.read().split(b"\n")[1 if start else 0 : -1]
    except FileNotFoundError:
        return 0, 0, 0.0
    for line in reversed(lines):
        if b'"p":' in line:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that the disk has damaged
                epoch, epochs, fraction = json.loads(line)["p"]
                return int(epoch), int(epochs), float(fraction)
    return 0, 0, 0.0


def logs(store: Store, home: Home, reference: str, *, lines: int | None = None, follow: bool = False) -> Iterator[str]:
    """Yield the last `lines` lines (all: None) of a stage's log, or of each running or failed stage of a submission.

    `follow` goes on until what is followed ends. Lines of a submission begin with the stage that wrote them.

    Raises: NotFound when there is no such run, or it has no log.
    """
    reconcile(store)
    submission, stage = find(store, reference)
    if stage is None:
        yield from _logs_of_submission(store, home, submission, lines=lines, follow=follow)
        return
    run = _stage_run(store, stage)
    tail = Tail(_log(store, home, run))
    yield from tail.last(lines, whole=run.status == "RUNNING")
    while follow and _stage_run(store, stage).status == "RUNNING":
        time.sleep(POLL_S)
        yield from tail.more()
        reconcile(store)
    yield from tail.more(whole=False)


def _stage_run(store: Store, run_id: str) -> StageRun:
    return store.stage_runs([run_id])[run_id]


def _look(submission: Submission, runs: Mapping[str, StageRun], home: Home, *, now_ms: float) -> SubmissionLook:
    found = (runs[run_id] for run_id in submission.run_ids if run_id in runs)
    return SubmissionLook(
        run_id=submission.run_id,
        pipeline=submission.pipeline,
        title=submission.title,
        state=WORDS[submission.status],
        started_ms=submission.started_ms,
        seconds=((submission.ended_ms or now_ms) - submission.attempt_ms) / 1000,
        host=submission.host,
        stages=tuple(_look_at_stage(run, submission.run_id, home, now_ms=now_ms) for run in found),
    )


def _look_at_stage(run: StageRun, submission: str, home: Home, *, now_ms: float) -> StageLook:
    epoch, epochs, fraction = 0, 0, float(run.status == "FINISHED")
    if run.status != "FINISHED":
        epoch, epochs, fraction = progress_of(home.stage(run.tags[records.FINGERPRINT]) / "journal.jsonl")
        if not epochs:  # it runs on another machine
            epoch, epochs, fraction, _ = announced.progress(run.tags)
    reused = run.status == "FINISHED" and run.parent != submission
    return StageLook(
        run_id=run.run_id,
        name=run.stage,
        kind=run.kind,
        arm=run.arm,
        state="reused" if reused else "diverged" if run.diverged else WORDS[run.status],
        fraction=fraction,
        epoch=epoch,
        epochs=epochs,
        seconds=seconds(run, now_ms=now_ms),
        metrics=run.metrics,
        reason=run.tags.get(records.REASON, "") if run.status in ("FAILED", "KILLED") else "",
    )


def seconds(run: StageRun, *, now_ms: float) -> float:
    """Return how long a stage ran, all its attempts together."""
    if run.status != "RUNNING" and records.SECONDS in run.tags:
        return float(run.tags[records.SECONDS])
    since_ms = float(run.tags.get(records.ATTEMPT_MS, run.started_ms))
    return float(run.tags.get(records.EARLIER_S, 0)) + ((run.ended_ms or now_ms) - since_ms) / 1000


def _log(store: Store, home: Home, run: StageRun) -> Source:
    """Return the log of a stage: the file in its folder, or an artifact where the folder is another machine's."""
    path = home.stage(run.tags[records.FINGERPRINT]) / LOG
    if path.exists() or (run.status == "RUNNING" and not store.is_served):
        return File(path)
    if run.status != "FINISHED" and store.is_served:
        return Artifact(store, run.run_id)
    try:
        return File(store.fetch(run.run_id, LOG))
    except StoreError as error:
        raise NotFound("it left no log", place=f"run {run.run_id}", hint=str(error)) from error


def _logs_of_submission(
    store: Store, home: Home, submission: Submission, *, lines: int | None, follow: bool
) -> Iterator[str]:
    tails: dict[str, Tail] = {}
    while True:
        over = not follow or submission.status != "RUNNING"
        for run in store.stage_runs(submission.run_ids).values():
            if run.run_id not in tails and run.status in ("RUNNING", "FAILED"):
                tails[run.run_id] = Tail(_log(store, home, run), prefix=f"{run.stage} {run.arm}".rstrip() + " | ")
                yield from tails[run.run_id].last(lines, whole=run.status == "RUNNING")
        for tail in tails.values():
            yield from tail.more(whole=not over)
        if over:
            break
        time.sleep(POLL_S)
        reconcile(store)
        submission = find(store, submission.run_id)[0]
    if not tails:
        hint = f"`leoclr-ops status {submission.run_id[:8]}` lists its stages: name one"
        raise NotFound("none of its stages is running or failed", place=f"run {submission.run_id}", hint=hint)
