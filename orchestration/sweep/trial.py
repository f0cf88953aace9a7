"""One trial under way: its submission, what it has shown so far, and what came of it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from jobs import journal
from orchestration.plan import Plan
from orchestration.progress import Outcome, StageView
from orchestration.records import DIVERGED
from orchestration.spec import Arm, PipelineSpec
from orchestration.storage import Home
from orchestration.submission import Submission
from orchestration.sweep import trial_spec as sweep_trial_spec
from orchestration.sweep.ledger import Asked, Ending, Entry
from orchestration.sweep.options import Goal, NoScheduler, Pbt, Watching
from orchestration.sweep.records import trial_name
from orchestration.sweep.spec import SweepSpec
from orchestration.tracking import Store


@dataclass(slots=True)
class Trial:
    """A trial whose submission was opened; times are of the monotonic clock, in seconds."""

    sweep: SweepSpec
    asked: Asked
    pipeline: PipelineSpec
    plan: Plan
    submission: Submission
    labels: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    history: list[tuple[int, float]] = field(default_factory=list)  # (epoch, mean over arms) of what is watched
    _seen: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))  # value by epoch, by arm
    _read: dict[str, int] = field(default_factory=dict)  # bytes of each arm's journal

    @property
    def name(self) -> str:
        return trial_name(self.asked.number, self.labels)

    def look(self, home: Home) -> list[tuple[int, float]]:
        """Return what is new of the number that is watched: epochs that every arm has reached."""
        watched = self._watched
        for arm in self.pipeline.arms:
            if own := self.plan.arms[arm.name].get(watched.stage):
                self._follow(arm, watched.metric, home.stage(own) / "journal.jsonl")
        arms = [self._seen[arm.name] for arm in self.pipeline.arms]
        last = self.history[-1][0] if self.history else 0
        epochs = sorted(epoch for epoch in set.intersection(*(set(arm) for arm in arms)) if epoch > last)
        new = [(epoch, sum(arm[epoch] for arm in arms) / len(arms)) for epoch in epochs]
        self.history += new
        return new

    def ended(self, outcome: Outcome, store: Store) -> Entry:
        """Return what came of it. Raises: StoreError."""
        if outcome.failed:
            diverged = [reason for reason in outcome.failed if DIVERGED in reason]
            if diverged and len(diverged) == len(outcome.failed):
                return self.entry("diverged", diverged[0].partition(DIVERGED)[2])
            return self.entry("failed", "; ".join(outcome.failed))
        self._look_at_the_end(store)
        if isinstance(self.sweep.scheduler, Pbt) and (end := self._end) < self._schedule:
            reached = f"{self._watched.metric} {self.history[-1][1]:.4g}" if self.history else "nothing"
            return self.entry("stopped", f"a generation ended after epoch {end} of {self._schedule} with {reached}")
        values: dict[str, float] = {}
        for title, goal in self.sweep.goals.items():
            found = self._values(title, goal, store)
            if len(found) < len(self.pipeline.arms):
                return self.entry("failed", f"a finished run of {goal.stage} has no number for {title}")
            values[title] = sum(found) / len(found)
        for title, value in values.items():
            if not math.isfinite(value):
                return self.entry("diverged", f"{title} ended as {value}", values=values)
        for title, guard in self.sweep.guards.items():
            ends = self._ends(guard.stage, guard.metric, store)
            if len(ends) < len(self.pipeline.arms):
                return self.entry("failed", f"a finished run of {guard.stage} has no number {guard.metric}")
            if (low := min(ends)) <= guard.floor:
                reason = f"{title} ended at {low:.2g}, at most {guard.floor:g}"
                return self.entry("diverged", reason, values=values)
        return self.entry("done", values=values)

    def entry(self, state: Ending, reason: str = "", *, values: dict[str, float] | None = None) -> Entry:
        """Return what the ledger is to know."""
        return Entry(
            self.asked.number,
            self.asked.point,
            self.asked.seeds,
            state=state,
            reason=" ".join(reason.split())[:500],
            run_id=self.submission.run_id,
            labels=self.labels,
            values=values or {},
            history=tuple(self.history),
            seconds=time.monotonic() - self.started,
            before=self.asked.before,
        )

    def view(self) -> StageView:
        """Return the line that the display shows."""
        stages = self.submission.views()
        todo = [stage for stage in stages if stage.state != "reused"]
        running = next((stage for stage in stages if stage.state == "running"), None)
        share = sum(1.0 if stage.state == "done" else stage.fraction for stage in todo) / max(1, len(todo))
        seconds = time.monotonic() - self.started
        waits = next((stage.note for stage in stages if stage.note), "")
        return StageView(
            name=str(self.asked.number),
            kind="trial",
            arms=(self.name.partition(" ")[2],),
            state="running" if running or share else "queued",
            run_id=self.submission.run_id,
            fraction=share,
            epoch=running.epoch if running else 0,
            epochs=running.epochs if running else 0,
            loss=running.loss if running else None,
            metric=(self._watched.metric, self.history[-1][1]) if self.history else None,
            images_per_s=running.images_per_s if running else None,
            seconds=seconds,
            seconds_left=seconds * (1 - share) / share if share > 0.05 else None,
            note=waits,
        )

    @property
    def _schedule(self) -> int:
        """The epochs of the schedule of what is watched."""
        return int(self.pipeline.arms[0].stages[self._watched.stage].params_json.get("epochs") or 0)

    @property
    def _end(self) -> int:
        """The epoch after which what is watched ends."""
        return int(self.pipeline.arms[0].stages[self._watched.stage].params_json.get("until") or self._schedule)

    @property
    def _watched(self) -> Watching:
        return Watching() if isinstance(self.sweep.scheduler, NoScheduler) else self.sweep.scheduler

    def _follow(self, arm: Arm, metric: str, path: Path) -> None:
        read = journal.numbers(path, self._read.get(arm.name, 0))  # what is damaged is told where it is recorded
        self._read[arm.name] = read.end
        for line in read.lines:
            if "e" in line and metric in line["m"]:
                self._seen[arm.name][line["e"] + 1] = float(line["m"][metric])

    def _look_at_the_end(self, store: Store) -> None:
        """Add the number that the watched stage ended with: it is of its last epoch, and stands in no journal.

        A stage that came to its end is evaluated, whatever a scheduler thinks of it; later trials are judged by it.
        """
        if isinstance(self.sweep.scheduler, NoScheduler):
            return
        watched, arms = self.sweep.scheduler, self.pipeline.arms
        epochs = self._end
        ends = self._ends(watched.stage, watched.metric, store)
        if len(ends) == len(arms) and epochs > (self.history[-1][0] if self.history else 0):
            self.history.append((epochs, sum(ends) / len(ends)))

    def _ends(self, stage: str, metric: str, store: Store) -> list[float]:
        """Return the last value of a number in each arm; fewer where the store does not have one."""
        runs = [self.submission.run_of(arm.name, stage) or "" for arm in self.pipeline.arms]
        found = store.stage_runs(filter(None, runs))
        return [found[run].metrics[metric] for run in runs if run in found and metric in found[run].metrics]

    def _values(self, title: str, goal: Goal, store: Store) -> list[float]:
        """Return the number that each arm ended with; fewer where the store does not have one."""
        runs = {arm.name: self.submission.run_of(arm.name, goal.stage) or "" for arm in self.pipeline.arms}
        found = store.stage_runs(filter(None, runs.values()))
        values: list[float] = []
        for arm in self.pipeline.arms:
            run, name = found.get(runs[arm.name]), sweep_trial_spec.metric(self.sweep, title, arm)
            values += [run.metrics[name]] if run and name in run.metrics else []
        return values
