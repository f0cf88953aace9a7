"""A `PipelineSpec` and what ran before become a `Plan`: which stages in which order, and which are done already.

Pure: no disk, no clock, no network; `make` decides, the runner acts.

A fingerprint covers all that decides a stage's numbers, its inputs' fingerprints included; so
- a finished run with that fingerprint and a sound artifact is reused, whichever pipeline or arm it ran for;
- it stays valid whatever becomes of the runs before it: a stage that is not finished, or whose artifact is gone, need
  not run when everything that needs it is finished (`State.SKIPPED`);
- a stage that runs anew under the same fingerprint gives the same numbers, so nothing after it need run again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from graphlib import TopologicalSorter
from itertools import islice
from statistics import median
from typing import Any, Literal

from orchestration.fingerprint import differences, digest_of, fingerprint
from orchestration.spec import Arm, PipelineSpec, StageSpec

NEAR = 100  # runs of other pipelines that are compared with a new stage
_MOST_DIFFERENCES = 3  # named in a `why`


class State(StrEnum):
    """What a plan says of a stage."""

    DONE = "done"  # a finished run with a sound artifact has this fingerprint
    TODO = "to do"
    SKIPPED = "skipped"  # not done, but everything that needs it is


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A run of a stage as the tracking store remembers it."""

    run_id: str
    fingerprint: str
    kind: str
    stage: str  # its name in its pipeline
    arm: str  # name of the arm that it ran for
    pipeline: str
    params: dict[str, Any]  # as StageSpec.params_json
    digest: str  # of its data set
    results_version: int
    inputs: dict[str, str]  # fingerprint by name of the stage that it needed
    status: Literal["FINISHED", "RUNNING", "FAILED", "KILLED"]
    reusable: bool  # finished and its artifact verified
    problem: str  # of the artifact of a finished run that is not reusable, such as "missing"; "" otherwise
    seconds: float | None  # it took, all attempts together
    started_ms: int  # Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One distinct fingerprint: a stage, shared by every arm that asks for the same numbers."""

    fingerprint: str
    kind: str
    name: str
    arms: tuple[str, ...]  # names of the arms that share it
    spec: StageSpec  # of the first of them
    inputs: dict[str, str]  # fingerprint by name of the stage that it needs
    digest: str  # of its data set
    state: State
    why: str  # in words, for the user
    run_id: str | None  # of the finished run when DONE, or SKIPPED after it finished once
    resume: str | None = None  # interrupted or failed run of this fingerprint, to be continued when TODO
    estimate_s: float | None  # None without history


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    pipeline: str
    stages: tuple[PlannedStage, ...]  # in topological order, one per distinct fingerprint
    arms: Mapping[str, Mapping[str, str]]  # fingerprint by stage name, by arm name
    fingerprint: str  # the same question has the same one, whatever is done already
    total_estimate_s: float | None  # of the stages to do, one after the other; None when one is unknown


def make(spec: PipelineSpec, *, digests: Mapping[str, str], past: Sequence[PastRun], results_version: int) -> Plan:
    """Return what to run of `spec`, given the digest of each of its data sets and all runs so far."""
    stages, arms = _undecided(spec, digests=digests, results_version=results_version)
    decided = _decide(stages, past)
    history = History(past)
    explained = [
        _explain(stage, decided, history=history, pipeline=spec.name, results_version=results_version)
        for stage in decided.values()
    ]
    times = [stage.estimate_s for stage in explained if stage.state is State.TODO]
    known = [time for time in times if time is not None]
    return Plan(
        pipeline=spec.name,
        stages=tuple(explained),
        arms=arms,
        fingerprint=digest_of([spec.name, arms]),
        total_estimate_s=sum(known) if len(known) == len(times) else None,
    )


def fingerprints(spec: PipelineSpec, *, digests: Mapping[str, str], results_version: int) -> list[str]:
    """Return the fingerprint of each stage that `make` would plan: what to ask the past for."""
    return list(_undecided(spec, digests=digests, results_version=results_version)[0])


class History:
    """What ran before, found without looking at all of it for each stage."""

    def __init__(self, past: Iterable[PastRun]) -> None:
        self.runs = tuple(past)
        self._same: dict[str, list[PastRun]] = {}  # by fingerprint
        self._alike: dict[tuple[str, str], list[PastRun]] = {}  # by kind and stage
        self._own: dict[tuple[str, str, str, str], list[PastRun]] = {}  # by these, pipeline and arm
        self._times: dict[tuple[object, ...], list[tuple[float, object]]] = {}  # seconds and epochs, by what is alike
        for run in sorted(self.runs, key=lambda run: -run.started_ms):
            self._same.setdefault(run.fingerprint, []).append(run)
            self._alike.setdefault((run.kind, run.stage), []).append(run)
            self._own.setdefault((run.kind, run.stage, run.pipeline, run.arm), []).append(run)
            if run.status == "FINISHED" and run.seconds is not None:
                times = self._times.setdefault(_cost_like(run.kind, run.params), [])
                times.append((run.seconds, run.params.get("epochs")))

    def of(self, fingerprint: str) -> list[PastRun]:
        """Return the runs of a fingerprint, the newest first."""
        return self._same.get(fingerprint, [])

    def estimate(self, spec: StageSpec) -> float | None:
        """Return the median seconds of finished runs alike, each scaled by its epochs; resources are ignored."""
        mine = spec.params_json.get("epochs")
        known = self._times.get(_cost_like(spec.kind, spec.params_json), [])
        times = [seconds * ratio for seconds, epochs in known if (ratio := _ratio(mine, epochs)) is not None]
        return median(times) if times else None

    def nearest(self, stage: PlannedStage, pipeline: str, planned: Container[str]) -> PastRun | None:
        """Return the past run that `stage` replaces: the last of its pipeline and arm, else the one that differs least.

        A run of `planned` fingerprints is another arm's, and replaced by nothing. Of runs elsewhere the `NEAR` newest
        are looked at.
        """
        kind = stage.kind, stage.name
        own = [run for arm in stage.arms for run in self._own.get((*kind, pipeline, arm), ())]
        own = [run for run in own if run.fingerprint not in planned]
        if own:
            return max(own, key=lambda run: run.started_ms)
        others = (run for run in self._alike.get(kind, ()) if run.fingerprint not in planned)
        mine = stage.spec.params_json
        return min(islice(others, NEAR), key=lambda run: len(differences(run.params, mine)), default=None)


def _cost_like(kind: str, params: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what stages that cost alike have in common."""
    return kind, params.get("dataset"), params.get("method") if kind == "pretrain" else None


def _undecided(
    spec: PipelineSpec, *, digests: Mapping[str, str], results_version: int
) -> tuple[dict[str, PlannedStage], dict[str, dict[str, str]]]:
    """Return the stages by fingerprint, inputs first, and the fingerprints by stage name of each arm."""
    stages: dict[str, PlannedStage] = {}
    arms: dict[str, dict[str, str]] = {}
    for arm in spec.arms:
        arms[arm.name] = _add_arm(stages, arm, digests=digests, results_version=results_version)
    return stages, arms


def _add_arm(
    stages: dict[str, PlannedStage], arm: Arm, *, digests: Mapping[str, str], results_version: int
) -> dict[str, str]:
    """Put the stages of `arm` into `stages`, inputs first; return its fingerprints by stage name."""
    prints: dict[str, str] = {}
    for name in TopologicalSorter({name: stage.needs for name, stage in arm.stages.items()}).static_order():
        spec = arm.stages[name]
        digest = digests[spec.params.dataset]
        inputs = {need: prints[need] for need in spec.needs}
        own = fingerprint(
            spec.kind, spec.params_json, results_version=results_version, digest=digest, inputs=inputs.values()
        )
        prints[name] = own
        if own not in stages:
            stages[own] = _new(own, spec, inputs=inputs, digest=digest)
        if arm.name not in stages[own].arms:
            stages[own] = replace(stages[own], arms=(*stages[own].arms, arm.name))
    return {name: prints[name] for name in arm.stages}


def _new(own: str, spec: StageSpec, *, inputs: dict[str, str], digest: str) -> PlannedStage:
    return PlannedStage(
        fingerprint=own,
        kind=spec.kind,
        name=spec.name,
        arms=(),
        spec=spec,
        inputs=inputs,
        digest=digest,
        state=State.TODO,
        why="new",
        run_id=None,
        estimate_s=None,
    )


def _decide(stages: Mapping[str, PlannedStage], past: Sequence[PastRun]) -> dict[str, PlannedStage]:
    """Return `stages` in the same order, each with its state and the run that is reused."""
    dependents: dict[str, list[str]] = {own: [] for own in stages}
    for own, stage in stages.items():
        for need in stage.inputs.values():
            dependents[need].append(own)
    states: dict[str, State] = {}
    finished = {run.fingerprint: run for run in sorted(past, key=_merit) if run.status == "FINISHED"}
    for own in reversed(list(stages)):
        if own in finished and finished[own].reusable:
            states[own] = State.DONE
        elif dependents[own] and all(states[after] is not State.TODO for after in dependents[own]):
            states[own] = State.SKIPPED
        else:
            states[own] = State.TODO
    reused = {own: run.run_id for own, run in finished.items() if states.get(own) in (State.DONE, State.SKIPPED)}
    return {own: replace(stage, state=states[own], run_id=reused.get(own)) for own, stage in stages.items()}


def _merit(run: PastRun) -> tuple[bool, int]:
    return run.reusable, run.started_ms


def _explain(
    stage: PlannedStage,
    stages: Mapping[str, PlannedStage],
    *,
    history: History,
    pipeline: str,
    results_version: int,
) -> PlannedStage:
    """Return `stage` with `why`, the run to continue, and the estimate."""
    known = history.estimate(stage.spec)
    if stage.state is State.DONE:
        return replace(stage, why=f"finished in run {stage.run_id:.8}", estimate_s=known)
    if stage.state is State.SKIPPED:
        return replace(stage, why="not needed: everything after it is finished", estimate_s=known)
    if same := history.of(stage.fingerprint):
        last = same[0]
        if last.status == "FINISHED":
            why = f"reruns because the artifact of run {last.run_id:.8} is {last.problem}"
            return replace(stage, why=why, estimate_s=known)
        word = "failed" if last.status == "FAILED" else "interrupted"
        why = f"continues run {last.run_id:.8} ({word})"
        return replace(stage, why=why, resume=last.run_id, estimate_s=known)
    nearest = history.nearest(stage, pipeline, stages)
    why = "new" if nearest is None else _difference(stage, nearest, stages, results_version)
    return replace(stage, why=why, estimate_s=known)


def _difference(stage: PlannedStage, before: PastRun, stages: Mapping[str, PlannedStage], results_version: int) -> str:
    """Return the first cause that tells `stage` from the run `before`."""
    if before.results_version != results_version:
        return f"reruns because results version {before.results_version} -> {results_version}"
    changes = differences(before.params, stage.spec.params_json)
    if changes:
        more = len(changes) - _MOST_DIFFERENCES
        return "reruns because " + ", ".join(changes[:_MOST_DIFFERENCES]) + (f" and {more} more" if more > 0 else "")
    if before.digest != stage.digest:
        return f"reruns because the data changed (digest {before.digest:.4} -> {stage.digest:.4})"
    for name, own in stage.inputs.items():
        if before.inputs.get(name) != own:
            verb = "reruns" if stages[own].state is State.TODO else "is another run"
            return f"reruns because {name} {verb}"
    return "reruns because it needs other stages" if before.inputs != stage.inputs else "new"


def _ratio(mine: object, theirs: object) -> float | None:
    """Return mine / theirs; 1 where one has no epochs or they are equal; None where only one of them trains."""
    if not isinstance(mine, int | float) or not isinstance(theirs, int | float) or mine == theirs:
        return 1.0
    return mine / theirs if mine and theirs else None
