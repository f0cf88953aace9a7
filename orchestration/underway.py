"""A planned stage on its way: what the runner knows of it from waiting to done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import jobs
from jobs import grid
from jobs.contract import Job
from jobs.inputs import BACKBONE, CHECKPOINT
from orchestration import installed
from orchestration.backend import Ended
from orchestration.folders import shared
from orchestration.naming import Context
from orchestration.plan import PlannedStage, State
from orchestration.progress import StageState, StageView
from orchestration.recorder import Progress
from orchestration.schedule import Ask, Grant, Held
from orchestration.spec import PipelineSpec
from orchestration.storage import Home, address
from orchestration.tracking import Store

FIRST_S, LONGEST_S = 2.0, 60.0  # between two tries of a store that does not answer: doubled each time
LOOK_S = 2.0  # between two looks at a stage that another submit is running
RETRY_S = 1.0  # before a crashed stage starts again
SOON = 0.02  # share of a stage before which its own speed tells nothing of the time left


@dataclass(slots=True)
class Underway:
    """One stage of a submission; the runner alone changes it. Times are of the monotonic clock, in seconds."""

    plan: PlannedStage
    state: StageState | Literal["committing", "failing"]  # its job ended well, or not, and MLflow does not know yet
    run_id: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    trials: int = 0  # points of its grid
    ask: Ask | None = None  # of its attempt
    workers: int = 0  # of its attempt, those of all trials side by side
    overtook: str = ""  # as `schedule.Held.overtook`
    begun: bool = False  # its folder is locked and its run open
    crashes: int = 0  # that count against `max_failures`
    retry_at: float = 0.0  # nothing is tried before
    tries: int = 0  # of the store in vain, in a row
    note: str = ""
    failure: str = ""  # why it failed, while the store is not told
    metric: tuple[str, float] | None = None  # what it ended with, to show
    lock: ExitStack = field(default_factory=ExitStack)  # of its folder, while this process runs it

    @classmethod
    def of(cls, planned: PlannedStage) -> Underway:
        """Return a stage at its beginning."""
        if planned.state is not State.TODO:
            return cls(planned, "reused", planned.run_id)
        return cls(planned, "waiting", trials=len(grid.points_of(planned.kind, planned.spec.params_json)))

    @property
    def title(self) -> str:
        """Its name, and that of the first arm that it runs for."""
        return f"{self.plan.name} {self.plan.arms[0]}".rstrip()

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "committing", "failing")

    @property
    def is_open(self) -> bool:
        """Whether something is still to come of it."""
        return self.is_running or self.state in ("waiting", "queued")

    def tries_again(self, ended: Ended) -> bool:
        """Get ready for another attempt after a crash; False where there is none."""
        retries = self.plan.spec.resources.max_failures
        if not ended.crashed or (ended.charged and self.crashes >= retries):
            return False
        self.crashes += ended.charged
        self.state, self.retry_at = "queued", time.monotonic() + RETRY_S
        attempt = f"attempt {self.crashes + 1} of {retries + 1}" if ended.charged else "goes on elsewhere"
        self.note = f"{'crashed' if ended.charged else 'stopped'} ({ended.reason}); {attempt}"
        return True

    def give(self, ask: Ask, grant: Grant) -> None:
        """Take the room that was granted."""
        self.ask, self.workers, self.overtook = ask, grant.workers, grant.overtook

    def holds(self, progress: Progress) -> Held:
        """Return what it holds while it runs."""
        assert self.ask
        return Held(self.ask.needs(self.workers), self.left(progress, time.monotonic() - self.started), self.overtook)

    def leave(self, note: str) -> None:
        """Let go of the folder, which another submit has, and look again in a moment what has become of it."""
        self.lock.close()
        self.state, self.begun, self.crashes = "queued", False, 0
        self.note, self.retry_at = note, time.monotonic() + LOOK_S

    def shows(self, metrics: Mapping[str, float]) -> None:
        """Take what it ended with: of that the number that its kind shows first."""
        shown = jobs.module(self.plan.kind).METRICS[0].name
        self.metric = next(((name, metrics[name]) for name in (shown, *metrics) if name in metrics), None)

    def wait(self, note: str) -> None:
        """Try again later, and ever later: the store did not answer."""
        self.note, self.tries = note, self.tries + 1
        self.retry_at = time.monotonic() + min(LONGEST_S, FIRST_S * 2 ** min(self.tries - 1, 16))

    def end(self, state: StageState, note: str) -> None:
        """Settle for good, and let go of the folder."""
        if self.started:
            self.seconds = time.monotonic() - self.started
        self.state, self.note = state, note
        self.lock.close()

    @property
    def _shown(self) -> StageState:
        return "running" if self.state == "committing" or self.state == "failing" else self.state

    def view(self, progress: Progress) -> StageView:
        """Return what the display shows; `progress` counts while it runs."""
        running = self.is_running
        seconds = time.monotonic() - self.started if running else self.seconds
        return StageView(
            name=self.plan.name,
            kind=self.plan.kind,
            arms=self.plan.arms,
            state=self._shown,
            run_id=self.run_id,
            fraction=progress.fraction if running else 0.0,
            epoch=progress.epoch if running else 0,
            epochs=progress.epochs if running else 0,
            loss=progress.loss if running else None,
            metric=progress.metric if running else self.metric,
            images_per_s=progress.images_per_s if running else None,
            seconds=seconds,
            seconds_left=self.left(progress, seconds),
            note=self.note,
        )

    def left(self, progress: Progress, seconds: float) -> float | None:
        """Return the time still needed: by its own speed once that is known, else by earlier runs of its kind."""
        if not self.is_open:
            return None
        if self.is_running and progress.fraction > SOON:
            return seconds * (1 - progress.fraction) / progress.fraction
        return self.plan.estimate_s


def context_of(stage: Underway, stages: Mapping[str, Underway], axes: Mapping[str, str]) -> Context:
    """Return what the run of a stage is shown with: the pre-training it stands on, and the axes of its trial."""
    origins = [stages[needed] for needed in stage.plan.inputs.values() if stages[needed].plan.kind == "pretrain"]
    return Context(origins[0].plan, origins[0].run_id, axes) if origins else Context(axes=axes)


def job_of(stage: Underway, stages: Mapping[str, Underway], store: Store, *, spec: PipelineSpec, home: Home) -> Job:
    """Return what the backend is to start: the stage's params and places, and the results of what it needs, fetched.

    `stages` are those of the submission, by fingerprint. Raises: StoreError when a result cannot be fetched.
    """
    plan, inputs, begins = stage.plan, dict[str, str](), 0
    for needed in plan.inputs.values():
        upstream = stages[needed]
        if upstream.state in ("done", "reused") and upstream.run_id and upstream.plan.kind == "pretrain":
            name, file = ("checkpoint", CHECKPOINT) if plan.kind == "pretrain" else ("pretrain", BACKBONE)
            inputs[name] = str(shared(home, store.fetch(upstream.run_id, file)))
            begins = upstream.plan.spec.params_json.get("until", 0) if plan.kind == "pretrain" else 0
    dataset = plan.spec.params.dataset
    root = spec.data.get(dataset, home.data(dataset))
    return Job(
        stage=plan.name,
        kind=plan.kind,
        fingerprint=plan.fingerprint,
        params=dict(plan.spec.params_json),
        resources=plan.spec.resources.of(plan.spec.resources.fewest if stage.trials else stage.workers),
        at_once=max(1, stage.workers // plan.spec.resources.fewest),
        folder=str(home.work(plan.fingerprint)),
        inputs=inputs,
        begins=begins,
        data_root=address(root) or str(root),
        keeper=installed.facts(home, root),
    )
