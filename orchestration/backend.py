"""Where stages run: a small Ray cluster of this process's own, or the one that RAY_ADDRESS names. Only this starts Ray.

A stage is a `TorchTrainer`. With several workers it has a controller and a worker group of its own processes. With one
it runs in Train's local mode inside a Ray task: same trainer, same loop, in a warm process that has torch imported
already. A worker group starts a dozen processes before its first step, a warm process none, and most stages of a
pipeline are small evaluations.

A gang of workers is a placement group of Ray Train's. They speak over NCCL where each has GPUs of its own, else over
gloo: NCCL refuses two workers on one GPU. What leads a gang stays on the driver's node, which nobody takes away.

A node that drains gets no more stages, and those on it leave it with a checkpoint (`jobs.preemption`): Ray Train's own
watcher is off, since it would start workers anew that the driver knows nothing of.

A stage with a grid of settings is led by a task that holds nothing: its trials, and then the stage itself, are tasks of
their own. Would it hold a CPU while it waits for them, two such stages could wait for ever on two CPUs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs
from jobs import grid
from jobs.contract import Job
from jobs.preemption import Preempted
from orchestration import installed, nodes, ray_token, schedule
from orchestration.errors import LeoclrOpsError
from orchestration.nodes import NODES
from orchestration.schedule import Ask, Size
from orchestration.spec import StageSpec

LOOK_S = 1.0  # between two looks at the nodes

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",  # a report waits for the controller's poll; Ray's default is 2 s
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it 2.60 warns at every start
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8",  # of each of three tries, then the driver looks how many fit
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stage's job ended: well, by a crash that says nothing about the stage, or by an error of its own."""

    crashed: bool = False
    charged: bool = True  # a crash counts against `max_failures`: not where a node was taken away
    reason: str = ""  # empty when it ended well


class Backend:
    """A running Ray cluster that takes jobs."""

    def __init__(self, *, own: bool) -> None:
        import ray

        self._ray, self._own = ray, own
        self._groups: set[Any] = set()  # handles of jobs that have placement groups: of workers, of trials
        self._may_come = nodes.parse(os.environ[NODES], NODES) if os.environ.get(NODES) else ()
        self._there: tuple[Size, ...] = ()
        self._looked = -LOOK_S
        self._fit = ray.remote(max_retries=0)(fit)
        self._search = ray.remote(max_retries=0, num_cpus=0)(search)
        # CUDA binds a process to the first GPU it sees, and keeps memory there: a stage on a GPU has its own process.
        self._fit_gpu = ray.remote(max_retries=0, max_calls=1, num_gpus=1)(fit)

    @property
    def there(self) -> tuple[Size, ...]:
        """The nodes that are there and do not drain, as of a second ago."""
        from ray._private.state import state

        if time.monotonic() - self._looked >= LOOK_S:
            draining = state.get_draining_nodes()
            alive = [n["Resources"] for n in self._ray.nodes() if n["Alive"] and n["NodeID"] not in draining]
            self._there = tuple(Size(has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in alive)
            self._looked = time.monotonic()
        return self._there

    @property
    def nodes(self) -> tuple[Size, ...]:
        """The nodes that stages are given to: those there, or those that an autoscaler brings once stages wait."""
        return max(self.there, self._may_come, key=lambda found: schedule.total(found)[::-1])

    def ask(self, stage: StageSpec, seconds: float | None = None, trials: int = 0) -> Ask:
        """Return what `stage` asks of this cluster; `seconds` that it takes with the most workers, where known."""
        has_gpus = any(node.gpus for node in self.nodes)
        return schedule.ask(stage.resources, stage.params, has_gpus=has_gpus, seconds=seconds, trials=trials)

    def require_room(self, stages: Iterable[StageSpec]) -> None:
        """Raises: LeoclrOpsError when the cluster can never hold one of `stages`."""
        for stage in stages:
            if reason := schedule.never_fits(self.nodes, self.ask(stage)):
                hint = "ask for fewer workers, or a fraction of a CPU each (cpus_per_worker: 0.5)"
                hint += "" if self._own else f"; a cluster that grows says to what: {NODES}, or `nodes` of its profile"
                raise LeoclrOpsError(reason, place=f"stages.{stage.name}.resources", hint=hint)

    def lacks(self, held: Size) -> str:
        """Return in words that nodes are to come, when more is given away than there is; "" otherwise."""
        there = schedule.total(self.there)
        if there.holds(held):
            return ""
        return f"waiting for nodes: {_words(held)} are asked for, {_words(there)} are there"

    def start(self, job: Job, ask: Ask) -> Any:
        """Start `job`, whose resources name a number of workers, and return a handle for `ended`."""
        workers, gpus = job.resources.fewest, ask.worker.gpus
        if grid.points(job):
            return self._lead(self._search, job, gpus)
        if workers > 1:  # its worker group holds the resources, the task that waits for it none
            return self._lead(self._fit, job, gpus)
        task = self._fit_gpu if gpus else self._fit
        options = {"num_cpus": ask.worker.cpus, "name": job.stage} | ({"num_gpus": gpus} if gpus else {})
        return task.options(**options).remote(job.model_dump(mode="json"), gpus)

    def _lead(self, task: Any, job: Job, gpus_per_worker: float) -> Any:
        """Start a task that holds nothing itself and waits for what does."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._free_leaked()
        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        leading = task.options(num_cpus=0, name=job.stage, scheduling_strategy=here)
        handle = leading.remote(job.model_dump(mode="json"), gpus_per_worker)
        self._groups.add(handle)
        return handle

    def _free_leaked(self) -> None:
        """Give back what the controller of a killed worker group still holds: without a dashboard, Ray does not."""
        if not self._own or self._groups:
            return
        from ray._raylet import PlacementGroupID
        from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

        for group, facts in placement_group_table().items():
            if facts["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))

    def ended(self, handles: Sequence[Any], *, timeout_s: float) -> dict[Any, Ended]:
        """Return those of `handles` whose jobs have ended; wait up to `timeout_s` seconds for the first."""
        first, _ = self._ray.wait(list(handles), num_returns=1, timeout=timeout_s)  # what waits for it starts at once
        done, _ = self._ray.wait(list(handles), num_returns=len(handles), timeout=0) if first else ([], [])
        self._groups.difference_update(done)
        return {handle: self._outcome(handle) for handle in done}

    def stop(self, handle: Any, *, force: bool) -> None:
        """Interrupt a job and what it started; `force` ends its process, which no other job can use then."""
        self._ray.cancel(handle, force=force, recursive=True)

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
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names; leave it at the end.

    Raises: LeoclrOpsError when no cluster answers there.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        ray_token.keep_private()
    import ray

    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": _cores()}
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises a bare Exception where a node takes too long to start
        hint = "unset RAY_ADDRESS to run on this machine, or start the cluster: see cluster/README.md"
        if address == "local":
            hint = "this machine may be too busy for its processes to start in time: try again"
        raise LeoclrOpsError(f"Ray does not start: {_first_line(error)}", place=address, hint=hint) from error
    try:
        yield Backend(own=address == "local")
    finally:
        ray.shutdown()


def _cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fit(config: dict[str, Any], gpus_per_worker: float) -> None:
    """Run one stage's `TorchTrainer` to its end, in a Ray task."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    job = Job.model_validate(config)
    folder, asked = Path(job.folder), job.resources
    # Ray's snapshot is not what we resume from, and a torn one would keep the run from ever starting.
    (folder / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
    per_worker = {"CPU": asked.cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    TorchTrainer(
        train,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=asked.workers if asked.fewest > 1 else 0,
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=per_worker,
            placement_strategy=asked.placement.upper(),
        ),
        torch_config=TorchConfig(backend="nccl" if gpus_per_worker >= 1 else "gloo"),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=2),
        ),
    ).fit()


def train(config: dict[str, Any]) -> None:
    """Run a stage's loop in one worker, with its files kept where its job says."""
    with installed.keeper(config):
        jobs.module(config["kind"]).train_loop(config)


def search(config: dict[str, Any], gpus_per_worker: float) -> None:
    """Run the trials of one stage, then the stage with what they chose, in a Ray task that holds nothing."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    with installed.keeper(config):
        job = grid.run(Job.model_validate(config), fit, gpus_per_worker)
    task = grid.task(fit, job, gpus_per_worker)
    try:
        ray.get(task.remote(job.model_dump(mode="json"), gpus_per_worker))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # what happened in it, as if it had happened here


def _from_task(error: Any) -> Ended:
    """Tell a crash of processes or nodes from an error of the stage itself, also inside a worker group."""
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    cause = error.cause
    if isinstance(cause, WorkerGroupError):
        failures = [getattr(each, "_base_exc", each) for each in cause.worker_failures.values()]
        taken = [each for each in failures if _is_taken(each)]
        crashes = [each for each in failures if _is_crash(each)]
        shown = (taken or crashes or failures)[0]
        return Ended(bool(taken or crashes), charged=not taken, reason=f"{type(shown).__name__}: {_first_line(shown)}")
    if isinstance(cause, ControllerError) and isinstance(cause.controller_failure, WorkerGroupStartupTimeoutError):
        return Ended(crashed=True, charged=False, reason="its workers found no room")
    taken_away = _is_taken(cause)
    crashed = taken_away or isinstance(cause, ControllerError) or _is_crash(cause)
    return Ended(crashed, charged=not taken_away, reason=f"{type(cause).__name__}: {_first_line(cause)}")


def _is_taken(error: BaseException) -> bool:
    """Return whether `error` says that a node was taken away, with a checkpoint in time or without."""
    return isinstance(error, Preempted) or bool(getattr(error, "preempted", False))


def _is_crash(error: BaseException) -> bool:
    """Return whether `error` says that a process, a node or a connection went away, which a new attempt may mend."""
    from ray.exceptions import RayError
    from ray.train.v2._internal import exceptions
    from torch.distributed import DistNetworkError

    gone = (RayError, exceptions.WorkerHealthCheckFailedError, exceptions.WorkerHealthCheckTimeoutError)
    return isinstance(error, (*gone, DistNetworkError, TimeoutError)) or any(
        said in str(error) for said in ("closed by peer", "reset by peer")
    )


def _words(size: Size) -> str:
    return " and ".join(filter(None, [f"{size.cpus:g} CPUs", f"{size.gpus:g} GPUs" if size.gpus else ""]))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
