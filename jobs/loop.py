"""The one training loop: it runs any `Work`, records, checkpoints, and continues where a kill left it.

What is on disk decides, never what a process remembers: a sealed `result/` means the stage is done; otherwise the
newest whole checkpoint is where it continues; otherwise it starts. Ray Train's own snapshot is not needed to resume, so
that a torn one cannot stop a run from ever starting.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import distributed as dist

import jobs
from jobs import health, keeping
from jobs.contract import Job
from jobs.holding import held, logged
from jobs.inputs import CHECKPOINT
from jobs.journal import Journal
from jobs.keeping import Held
from jobs.preemption import Preempted, Watch
from leoclr import checkpoint, distributed
from leoclr.checkpoint import Position
from leoclr.work import Work

Build = Callable[[Job, torch.device], Work]
Export = Callable[[Job, Work, Path], None]


log = logging.getLogger("leoclr")
Numbers = Mapping[str, float | int]


@dataclass(slots=True)
class _Attempt:
    """One worker's attempt at a stage: what it trains, and where it writes."""

    job: Job
    work: Work
    device: torch.device
    held: Held
    journal: Journal | None = None  # the first worker's
    score: float | None = None  # of the last epoch's look at the work, higher is better; None before, or without a look


def run(config: Mapping[str, Any], build: Build, export: Export | None = None) -> None:
    """Run the stage that `config` (a `Job` as JSON) describes in this worker.

    `build` makes the work, from params alone, after the seed is set, and must do the same on every worker; `export`
    writes what else the result holds, on the first worker.
    Raises: Diverged, Preempted, CheckpointError, DataError; the journal and the last checkpoint stay.
    """
    job = Job.model_validate(config)
    folder, device = Path(job.folder), _device()
    with held(folder) as own, logged(folder):
        if _first_says(lambda: _is_finished(job), device):
            log.info("already finished")
            return
        torch.set_num_threads(max(1, int(job.resources.cpus_per_worker)))
        _seed(int(job.params["seed"]))
        work = build(job, device)
        with health.told(job):
            _train(_Attempt(job, work, device, own), _resume(job, work, device, own))
        final = work.finish()
        log.info("finished: %s", ", ".join(f"{name} {value:.4g}" for name, value in final.items()))
        if distributed.rank() == 0:
            _commit(job, work, final, device, export)
        _report(final)


def _is_finished(job: Job) -> bool:
    """Return whether the result is sealed; sweep away what a kill left half-written."""
    folder = Path(job.folder)
    for draft in (*folder.glob(".result-*"), *folder.glob("checkpoints/.draft-*")):
        shutil.rmtree(draft, ignore_errors=True)
    return checkpoint.sealed(folder / "result", fingerprint=job.fingerprint)


def _first_says(question: Callable[[], Any], device: torch.device) -> Any:
    """Return the first worker's answer on every worker: the others' clocks and file systems may differ."""
    answer: list[Any] = [question() if distributed.rank() == 0 else None]
    if distributed.world_size() > 1:
        dist.broadcast_object_list(answer, src=0, device=device)
    return answer[0]


def _train(own: _Attempt, at: Position) -> None:
    """Run the epochs from `at` on."""
    job, work = own.job, own.work
    own.journal = journal = _journal(job, work)
    saved_at, watch = time.monotonic(), Watch(own.device)
    end = int(job.params.get("until") or work.epochs)
    try:
        for epoch in range(at.epoch, end):
            steps = work.steps(epoch)
            work.start_epoch(epoch, at.step)
            for step in range(at.step + 1, steps + 1):
                numbers = work.train_step()
                at = Position(epoch, step, at.total + 1)
                if journal:
                    share = (job.trials + (epoch - job.begins + step / steps) / (end - job.begins)) / (job.trials + 1)
                    journal.step(at.total, numbers, (epoch + 1, work.epochs, share))
                every = job.resources.checkpoint_every_steps
                if every and at.total % every == 0 and step < steps:
                    _checkpoint(own, at)
                if step < steps and watch.stops(at.total):
                    _leave(own, at)
            at = Position(epoch + 1, 0, at.total)
            monitor = work.end_epoch(epoch)
            own.score = _score(job, monitor)
            if journal:
                journal.epoch(epoch, at.total, monitor)
            if at.epoch < end and _first_says(partial(_is_old, saved_at, job), own.device):
                _checkpoint(own, at)
                saved_at = time.monotonic()
            if at.epoch < end and watch.stops(at.total):
                _leave(own, at)
        if journal:
            health.require_finite(work.state())
    finally:
        watch.close()
        if journal:
            journal.close()


def _device() -> torch.device:
    """Return the device that Ray gave this worker."""
    from ray.train.torch import get_device  # in a worker only: it takes 2 s, and a plan imports this for params alone

    device: torch.device = get_device()
    return device


def _is_old(saved_at: float, job: Job) -> bool:
    return time.monotonic() - saved_at >= job.resources.checkpoint_every_s


def _journal(job: Job, work: Work) -> Journal | None:
    if distributed.rank() != 0:
        return None
    return Journal(Path(job.folder) / "journal.jsonl", steps=sum(work.steps(epoch) for epoch in range(work.epochs)))


def _score(job: Job, numbers: Numbers) -> float | None:
    """Return how good an epoch's numbers are, higher is better: by the one that the stage's kind shows first."""
    shown = jobs.module(job.kind).METRICS[0]
    if shown.name not in numbers or not math.isfinite(numbers[shown.name]):
        return None
    return float(numbers[shown.name]) * (1 if shown.better == "higher" else -1)


def _checkpoint(own: _Attempt, at: Position, *, wait: bool = False) -> None:
    """Seal a checkpoint. What it stands on, the journal up to this step, is on disk before it."""
    saved, job = None, own.job
    if own.journal:
        own.journal.flush(durable=True)
        state = {"work": own.work.state(), "random": _random_state(own.device)}
        health.require_finite(state["work"])
        keep, root = job.resources.checkpoints, Path(job.folder) / "checkpoints"
        saved = checkpoint.save(root, state, at, fingerprint=job.fingerprint, score=own.score)
        checkpoint.tidy(root, saved, last=keep.keep_last, best=keep.keep_best)
        own.held.keep(saved, wait=wait)
        log.info("checkpoint %s: epoch %d, step %d", saved.name, at.epoch, at.step)
    _report({"epoch": at.epoch, "step": at.total}, saved)


def _leave(own: _Attempt, at: Position) -> NoReturn:
    """Seal a checkpoint and stop here: a node of this stage is taken away. Raises: Preempted."""
    _checkpoint(own, at, wait=True)
    raise Preempted(f"a node is taken away; stopped after step {at.total} with a checkpoint")


def _report(numbers: Numbers, saved: Path | None = None) -> None:
    """Tell Ray Train; costs a poll of its controller, so only at checkpoints and at the end."""
    from ray.train import Checkpoint, CheckpointUploadMode, report

    plain = {name: float(value) for name, value in numbers.items()}
    held = Checkpoint.from_directory(str(saved)) if saved else None
    report(plain, checkpoint=held, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


def _resume(job: Job, work: Work, device: torch.device, own: Held) -> Position:
    """Load the newest whole checkpoint, the same on every worker, and return its position."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it tells every report on the console
    root = Path(job.folder) / "checkpoints"
    choice = _first_says(partial(_newest, root, job.fingerprint, own), device)
    if choice is None and job.begins:
        return _go_on(job, work, device)
    if choice is None:
        log.info("%s starts on %s with %d worker(s)", job.stage, device, distributed.world_size())
        return Position()
    found, at, digest = choice
    keeping.keeper().bring(found, digest=digest)
    state = checkpoint.load(found, device=device)
    work.load(state["work"])
    _set_random_state(state["random"], device)
    log.info("%s continues from checkpoint %s: epoch %d, step %d", job.stage, found.name, at.epoch, at.step)
    return Position(at.epoch, at.step, at.total)


def _newest(root: Path, fingerprint: str, own: Held) -> tuple[Path, Position, str] | None:
    """Return the newest whole checkpoint, its position, its manifest's sha256; from now on any node can have it."""
    if (found := checkpoint.latest(root, fingerprint=fingerprint)) is None:
        return None
    own.keep(found[0], wait=distributed.world_size() > 1)
    return *found, checkpoint.sha256_of(found[0] / checkpoint.MANIFEST)


def _go_on(job: Job, work: Work, device: torch.device) -> Position:
    """Take the state with which the pre-training before this one ended, and return its position."""
    path = Path(job.inputs["checkpoint"])
    keeping.keeper().bring(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        work.load(state["work"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise checkpoint.CheckpointError(f"{job.stage} cannot go on from {path}: {error}") from error
    _set_random_state(state["random"], device)
    log.info("%s goes on after epoch %d on %s", job.stage, job.begins, device)
    return Position(job.begins, 0, sum(work.steps(epoch) for epoch in range(job.begins)))


def _commit(job: Job, work: Work, final: Numbers, device: torch.device, export: Export | None) -> None:
    """Write the result whole: its manifest is the commit marker, and it appears under its name in one rename."""
    folder = Path(job.folder)
    draft = folder / f".result-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    if job.trial is None:  # of a trial only the numbers count, and a grid has dozens
        torch.save({"work": work.state(), "random": _random_state(device)}, draft / CHECKPOINT)
    (draft / "metrics.json").write_text(json.dumps({k: float(v) for k, v in final.items()}, indent=1, sort_keys=True))
    (draft / "params.json").write_text(json.dumps({"kind": job.kind, "params": job.params}, indent=1, sort_keys=True))
    shutil.copyfile(folder / "log.txt", draft / "log.txt")
    if export:
        export(job, work, draft)
    ended_ms = time.time_ns() // 1_000_000
    checkpoint.seal(draft, folder / "result", fingerprint=job.fingerprint, kind=job.kind, ended_ms=ended_ms)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _seed(seed: int) -> None:
    """Seed all global generators: initial weights come from here, and nothing else does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _random_state(device: torch.device) -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
