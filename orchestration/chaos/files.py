"""Faults of files: torn, damaged, gone, locked, and no room for more."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import time
from contextlib import closing

from orchestration.chaos import proof
from orchestration.chaos.lab import STEPS, Broken, Lab
from orchestration.chaos.processes import STOPPED, TRAINERS
from orchestration.chaos.trial import INTERVAL, Evidence, Trial
from orchestration.tracking import Store

LOCKED_S = 25.0  # longer than SQLite's own patience of 20 s
ROOM = 8192  # bytes that a file may have when the disk is full
FAILED = 3  # the exit code where a stage failed


def snapshot(trial: Trial) -> Evidence:
    """Leave half of the snapshot from which Ray would start two workers again."""
    with trial.lab(workers=2) as lab:
        at = _interrupted(trial, lab)
        (stage,) = (path.parent for path in lab.home.path.glob("stages/*/checkpoints"))
        (stage / "checkpoint_manager_snapshot.json").write_text('{"ray_version": "2.60.0", "checkpoint_res')
        lab.submit()
        return trial.same(lab, "Ray's snapshot is not asked", at=at, workers=2)


def damaged(trial: Trial) -> Evidence:
    """Flip one bit of the newest checkpoint."""
    with trial.lab() as lab:
        at = _interrupted(trial, lab)
        state = max(lab.home.path.glob("stages/*/checkpoints/[0-9]*")) / "state.pt"
        content = bytearray(state.read_bytes())
        content[trial.random.randrange(len(content))] ^= 1
        state.write_bytes(content)
        lab.submit()
        return trial.same(lab, "the checkpoint before it was taken", at=at, most=2 * INTERVAL)


def gone(trial: Trial) -> Evidence:
    """Remove what a finished evaluation left."""
    with trial.lab() as lab:
        lab.submit()
        first = proof.read(lab)
        run = first.runs["linear"]
        shutil.rmtree(Store.open(lab.home).fetch(run, proof.CHECKPOINT).parent)
        said = lab.tell("plan", "small.yaml")
        if "missing" not in said:
            raise Broken("`plan` does not say what is missing")
        lab.submit()
        found = proof.read(lab, besides=(run,))
        proof.require_same(trial.calm(1), found)
        if found.runs["pretrain"] != first.runs["pretrain"]:
            raise Broken("a stage that was whole ran again")
        return Evidence("`plan` said so; that stage alone ran again, and came to the same numbers", lost=0)


def locked(trial: Trial) -> Evidence:
    """Lock MLflow's SQLite file while a stage trains."""
    with trial.lab() as lab:
        process = lab.begin()
        before = lab.wait_for_step(STEPS // 3, process)
        with closing(sqlite3.connect(lab.home.database, timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_S)
            after = lab.steps()
            database.execute("ROLLBACK")
        lab.wait(process)
        return trial.same(lab, f"locked for {LOCKED_S:.0f} s: training went from step {before} to {after} meanwhile")


def full(trial: Trial) -> Evidence:
    """Let the file system refuse what the process that trains writes."""
    with trial.lab() as lab:
        process = lab.begin()
        lab.wait_for_step(STEPS + 10, process)
        trainer = lab.find(process, *TRAINERS)
        trainer.rlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
        said = lab.wait(process, code=FAILED)
        if "File too large" not in said:
            raise Broken("the failure does not name its reason")
        at = lab.steps()
        lab.submit()
        return trial.same(lab, "the stage failed and said why; with room again the same command continued it", at=at)


def _interrupted(trial: Trial, lab: Lab) -> int:
    """Submit, and press Ctrl-C in the middle of the second epoch; return the step."""
    process = lab.begin()
    lab.wait_for_step(trial.random.randint(STEPS + 10, STEPS + 30), process)
    process.send_signal(signal.SIGINT)
    lab.wait(process, code=STOPPED)
    return lab.steps()
