"""A grid of settings, tried side by side by Ray Tune before a stage trains: the only file that knows Ray Tune.

    STAGE/trials/<point>/      a trial: a job with its own fingerprint, run by the stage's own loop; its checkpoints,
                               journal, log, and the sealed result with its numbers on validation images
    STAGE/trials/<point>/diverged.json    instead of a result where the loss became no number: such a point loses
    STAGE/result/grid.json     in the stage's result: every point with its numbers, and which of them were chosen

What is on disk decides which trials still have to run, as for a stage; Ray Tune's own snapshot is thrown away. Each
trial holds what the stage's `resources` ask for, in a warm process as any stage; Tune starts as many at once as the
driver gave the stage room for. A trial never sees the test split: `Job.trial` says to train and score without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jobs
from jobs import journal, keeping
from jobs.contract import Job, Point
from jobs.health import DIVERGED
from jobs.holding import held, logged
from jobs.preemption import Preempted
from leoclr import checkpoint
from leoclr.evaluate.splits import Task

Fit = Callable[[dict[str, Any], float], None]  # runs a job, as JSON, with so many GPUs a worker, to its end
Numbers = Mapping[str, float]

SCORE = "score"  # the number of a trial that decides; higher is better

log = logging.getLogger("leoclr")


class TrialFailed(RuntimeError):
    """A trial failed by an error of its own; the message says which and why."""


def points(job: Job) -> list[Point]:
    """Return the points that the stage of `job` tries before it trains; none for most stages."""
    return [] if job.trial is not None else points_of(job.kind, job.params)


def points_of(kind: str, params: Mapping[str, Any]) -> list[Point]:
    """Return the points that a stage of `kind` tries under `params`."""
    module = jobs.module(kind)
    found: list[Point] = module.points(params) if hasattr(module, "points") else []
    return found


def run(job: Job, fit: Fit, gpus_per_worker: float) -> Job:
    """Run the trials of `job` that have not run yet, and return the job of the stage itself: with what was chosen.

    Raises: TrialFailed; or what Ray raises where a process or a node went away: the trials that ended are kept.
    """
    grid, folder = points(job), Path(job.folder)
    trials = [_trial(job, point) for point in grid]
    with held(folder), logged(folder):
        left = [trial for trial in trials if not _has_ended(trial)]
        log.info("%s tries %d points, %d of them are left", job.stage, len(trials), len(left))
        if left:
            _tune(left, trials, folder, fit, gpus_per_worker)
        found = results(job)
        chosen = choose(grid, found)
        for point in chosen.values():
            log.info("chosen: %s with %.4g on validation images", point.name, found[point.name][SCORE])
    return job.model_copy(update={"chosen": chosen, "trials": len(grid)})


def results(job: Job) -> dict[str, Numbers]:
    """Return the validation numbers of each trial of `job` that has ended, by its name; {} where the loss diverged."""
    found: dict[str, Numbers] = {}
    for trial in (_trial(job, point) for point in points(job)):
        sealed = Path(trial.folder) / "result" / "metrics.json"
        if _has_ended(trial):
            assert trial.trial is not None
            found[trial.trial.name] = json.loads(sealed.read_text()) if sealed.is_file() else {}
    return found


def choose(grid: Sequence[Point], found: Mapping[str, Numbers]) -> dict[str, Point]:
    """Return the point with the highest score of each group; of equal ones the first in the grid's order.

    Raises: TrialFailed when every point of a group diverged.
    """
    chosen: dict[str, Point] = {}
    for group in dict.fromkeys(point.group for point in grid):
        scored = [point for point in grid if point.group == group and SCORE in found[point.name]]
        if not scored:
            raise TrialFailed(f"{group or 'grid'}: the loss diverged at every point; lower the learning rates")
        chosen[group] = max(scored, key=lambda point: found[point.name][SCORE])  # max keeps the first
    return chosen


def noted(task: Task, chosen: Point | None) -> Task:
    """Return `task` with the settings that were chosen among its facts, such as chosen_lr."""
    if chosen is None:
        return task
    facts = {f"chosen_{name}": value for name, value in chosen.settings.items()}
    return dataclasses.replace(task, facts={**task.facts, **facts})


def export(job: Job, folder: Path) -> None:
    """Write grid.json into `folder`, the result of a stage that had a grid."""
    if job.chosen:
        found = results(job)
        tried = [{**point.model_dump(), "name": point.name, "numbers": found[point.name]} for point in points(job)]
        best = {group: point.name for group, point in job.chosen.items()}
        (folder / "grid.json").write_text(json.dumps({"points": tried, "chosen": best}, indent=1))


def _trial(job: Job, point: Point) -> Job:
    """Return the job that tries `point`: its fingerprint is that of the stage and the point together."""
    own = hashlib.sha256(f"{job.fingerprint}\n{point.name}".encode()).hexdigest()[: len(job.fingerprint)]
    folder = Path(job.folder) / "trials" / point.name.replace(" ", "_")
    return job.model_copy(
        update={"stage": f"{job.stage} {point.name}", "fingerprint": own, "folder": str(folder), "trial": point}
    )


def _has_ended(trial: Job) -> bool:
    result = Path(trial.folder) / "result"
    for kept in (result, _diverged(trial)):
        keeping.keeper().bring(kept)
    return checkpoint.sealed(result, fingerprint=trial.fingerprint) or _diverged(trial).is_file()


def _diverged(trial: Job) -> Path:
    return Path(trial.folder) / DIVERGED


def _tune(left: Sequence[Job], trials: Sequence[Job], folder: Path, fit: Fit, gpus_per_worker: float) -> None:
    """Run the trials `left` under Ray Tune. Raises: as `run`."""
    os.environ |= {"TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    from ray import tune  # it takes a second, and a plan imports this for the points alone

    storage = folder / "tune"
    shutil.rmtree(storage, ignore_errors=True)  # of a search that was killed
    for trial in left:
        Path(trial.folder).mkdir(parents=True, exist_ok=True)
    by_name = {trial.trial.name: trial.model_dump(mode="json") for trial in left if trial.trial}
    tuner = tune.Tuner(
        tune.with_resources(_trainable(by_name, fit, gpus_per_worker), {"memory": 1}),  # one byte: it only waits
        param_space={"point": tune.grid_search(list(by_name))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=left[0].at_once),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            verbose=0,
            failure_config=tune.FailureConfig(fail_fast=True),
            callbacks=[_progress(trials, folder / "journal.jsonl")],
        ),
    )
    ended = tuner.fit()
    for result in ended:
        if result.error is not None:
            raise _failure(result.config["point"], result.error)
    shutil.rmtree(storage, ignore_errors=True)


def _trainable(by_name: Mapping[str, dict[str, Any]], fit: Fit, gpus_per_worker: float) -> Callable[..., None]:
    def try_point(config: dict[str, Any]) -> None:
        """Run one trial in a warm task: inside a Tune session, Ray Train refuses to report."""
        import ray

        job = Job.model_validate(by_name[config["point"]])
        try:
            ray.get(task(fit, job, gpus_per_worker).remote(job.model_dump(mode="json"), gpus_per_worker))
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, journal.Diverged):  # its worker has noted that
                raise

    return try_point


def task(fit: Fit, job: Job, gpus_per_worker: float) -> Any:
    """Return `fit` as a Ray task that holds what `job` asks for; a worker group holds its own."""
    import ray

    # Scheduled for itself: not within what Tune reserves for the process that waits, which is nothing.
    options: dict[str, Any] = {"max_retries": 0, "scheduling_strategy": "DEFAULT"}
    options["num_cpus"] = 0 if job.resources.fewest > 1 else job.resources.cpus_per_worker
    if gpus_per_worker and job.resources.fewest == 1:
        # CUDA binds a process to the first GPU it sees, and keeps memory there: one process a job.
        options |= {"num_gpus": gpus_per_worker, "max_calls": 1}
    return ray.remote(**options)(fit).options(name=job.stage)


def _progress(trials: Sequence[Job], path: Path) -> Any:
    """Return a Tune callback that says in the stage's journal and log how many trials have ended, and their scores."""
    from ray import tune

    class Progress(tune.Callback):  # type: ignore[misc]  # Ray has no types
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            told.end(trial.config["point"])

    told = _Told(trials, path)
    return Progress()


class _Told:
    """Tells of trials as they end."""

    def __init__(self, trials: Sequence[Job], path: Path) -> None:
        self._trials, self._path = {t.trial.name: t for t in trials if t.trial}, path
        self._ended = sum(map(_has_ended, trials))

    def end(self, name: str) -> None:
        _has_ended(self._trials[name])
        sealed = Path(self._trials[name].folder) / "result" / "metrics.json"
        score = json.loads(sealed.read_text())[SCORE] if sealed.is_file() else None
        self._ended += 1
        count = len(self._trials)
        said = "diverged" if score is None else f"{score:.4g} on validation images"
        log.info("trial %d of %d ended: %s: %s", self._ended, count, name, said)
        numbers = {"grid/trials": float(self._ended)} | ({} if score is None else {"grid/score": score})
        journal.append_sample(self._path, numbers, (self._ended, count, self._ended / (count + 1)))


def _failure(name: str, error: BaseException) -> BaseException:
    """Return what to raise for a trial: a crash of a process as it is, so that the stage is tried again."""
    from ray.exceptions import RayError, RayTaskError

    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    if isinstance(cause, (RayError, Preempted)):
        crash: BaseException = cause
        return crash
    first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return TrialFailed(f"trial {name}: {type(cause).__name__}: {first}")
