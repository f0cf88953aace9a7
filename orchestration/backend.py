"""Where stages run: a small Ray cluster of this process's own, or the one that RAY_ADDRESS names. Only this starts Ray.

A stage is a `TorchTrainer`. With several workers it has a controller and a worker group of its own processes. With one
it runs in Train's local mode inside a Ray task: same trainer, same loop, in a warm process that has torch imported
already. On 2 cores a worker group costs about 16 s before its first step, a warm process none, and most stages of a
pipeline are small evaluations.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.contract import Job, Resources
from orchestration.errors import LeoclrOpsError

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",  # a report waits for the controller's poll; Ray's default is 2 s
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it 2.60 warns at every start
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stage's job ended: well, by a crash that says nothing about the stage, or by an error of its own."""

    crashed: bool = False
    reason: str = ""  # empty when it ended well


class Backend:
    """A running Ray cluster that takes jobs."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        total = ray.cluster_resources()
        self.cpus, self.gpus = float(total.get("CPU", 0)), float(total.get("GPU", 0))
        self._fit = ray.remote(max_retries=0)(fit)

    def needs(self, asked: Resources) -> tuple[float, float]:
        """Return the CPUs and GPUs that a stage holds while it runs."""
        gpus = (1.0 if self.gpus else 0.0) if asked.gpus_per_worker is None else asked.gpus_per_worker
        return asked.workers * asked.cpus_per_worker, asked.workers * gpus

    def require_room(self, stage: str, asked: Resources) -> None:
        """Raises: LeoclrOpsError when the cluster can never hold `stage`."""
        cpus, gpus = self.needs(asked)
        if cpus > self.cpus or gpus > self.gpus:
            raise LeoclrOpsError(
                f"needs {cpus:g} CPUs and {gpus:g} GPUs; this cluster has {self.cpus:g} and {self.gpus:g}",
                place=f"stages.{stage}.resources",
                hint="ask for fewer workers, or a fraction of a CPU each (cpus_per_worker: 0.5)",
            )

    def start(self, job: Job) -> Any:
        """Start `job` and return a handle for `ended`."""
        cpus, gpus = self.needs(job.resources)
        group = job.resources.workers > 1  # its worker group holds the resources, the task that waits for it none
        options = {"num_cpus": 0 if group else cpus, "num_gpus": 0 if group else gpus, "name": job.stage}
        return self._fit.options(**options).remote(job.model_dump(mode="json"), gpus / job.resources.workers)

    def ended(self, handles: Sequence[Any], *, timeout_s: float) -> dict[Any, Ended]:
        """Return those of `handles` whose jobs have ended; wait up to `timeout_s` seconds for the first."""
        done, _ = self._ray.wait(list(handles), num_returns=len(handles), timeout=timeout_s)
        return {handle: self._outcome(handle) for handle in done}

    def _outcome(self, handle: Any) -> Ended:
        exceptions = self._ray.exceptions
        try:
            self._ray.get(handle)
        except exceptions.RayTaskError as error:
            return _from_task(error)
        except exceptions.RayError as error:  # its process, node or memory went away
            return Ended(crashed=True, reason=f"{type(error).__name__}: {_first_line(error)}")
        return Ended()


@contextmanager
def connect() -> Iterator[Backend]:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names; leave it at the end."""
    os.environ |= {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": max(1, len(os.sched_getaffinity(0)))}
    ray.init(**options)
    try:
        yield Backend()
    finally:
        ray.shutdown()


def fit(config: dict[str, Any], gpus_per_worker: float) -> None:
    """Run one stage's `TorchTrainer` to its end, in a Ray task."""
    os.environ |= _ENVIRONMENT
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    import jobs

    job = Job.model_validate(config)
    folder, asked = Path(job.folder), job.resources
    # Ray's snapshot is not what we resume from, and a torn one would keep the run from ever starting.
    (folder / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    per_worker = {"CPU": asked.cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    TorchTrainer(
        jobs.module(job.kind).train_loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=asked.workers if asked.workers > 1 else 0,
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=RunConfig(
            name=folder.name, storage_path=str(folder.parent), failure_config=FailureConfig(max_failures=0)
        ),
    ).fit()


def _from_task(error: Any) -> Ended:
    """Tell a crash of Ray's processes from an error of the stage itself, also inside a worker group."""
    from ray.exceptions import RayError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    cause = error.cause
    if isinstance(cause, WorkerGroupError):
        failures = list(cause.worker_failures.values())
        crashes = [each for each in failures if isinstance(each, RayError | WorkerHealthCheckFailedError)]
        own = [each for each in failures if each not in crashes]
        shown = (crashes or own)[0]
        return Ended(crashed=bool(crashes), reason=f"{type(shown).__name__}: {_first_line(shown)}")
    return Ended(crashed=isinstance(cause, RayError), reason=f"{type(cause).__name__}: {_first_line(cause)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
