"""Faults of processes: killed, frozen, asked to end."""

from __future__ import annotations

import signal
import subprocess
import time

from orchestration.chaos.lab import STEPS, Broken, Lab, wait_for
from orchestration.chaos.trial import INTERVAL, Evidence, Trial

TRAINERS = "RayTrainWorker", "ray::pretrain", "ray::fit"  # as Ray names the process that trains
CONTROLLER = "TrainController"
STOPPED = 130  # the exit code after Ctrl-C, SIGTERM and `cancel`
STOP_S = 10.0  # in which they end everything


def worker(trial: Trial) -> Evidence:
    """Kill the process that trains, in the middle of an epoch."""
    with trial.lab() as lab:
        process = _until(trial, lab)
        trainer, at = lab.find(process, *TRAINERS), lab.steps()
        trainer.kill()
        _survives(lab, process)
        return trial.same(lab, "the stage began again by itself", at=at)


def sealed(trial: Trial) -> Evidence:
    """Kill the process that trains, right after a checkpoint appeared under its name."""
    with trial.lab() as lab:
        process = _until(trial, lab)
        trainer, before = lab.find(process, *TRAINERS), _checkpoints(lab)
        wait_for("another checkpoint", lambda: bool(_checkpoints(lab) - before), unless=process)
        at = lab.steps()
        trainer.kill()
        _survives(lab, process)
        return trial.same(lab, "the checkpoint was taken up", at=at)


def hang(trial: Trial) -> Evidence:
    """Freeze the process that trains, for good."""
    with trial.lab() as lab:
        process = _until(trial, lab)
        lab.find(process, *TRAINERS).suspend()
        began, at = time.monotonic(), lab.steps()
        wait_for("the stage begins again", lambda: "continues from" in lab.log(), unless=process)
        seconds = time.monotonic() - began
        _survives(lab, process)
        return trial.same(lab, f"seen, ended and begun again within {seconds:.0f} s", at=at)


def controller(trial: Trial) -> Evidence:
    """Kill the process that leads two workers."""
    with trial.lab(workers=2) as lab:
        process = _until(trial, lab)
        leader, at = lab.find(process, CONTROLLER), lab.steps()
        leader.kill()
        _survives(lab, process)
        return trial.same(lab, "the gang began again by itself", at=at, workers=2)


def driver(trial: Trial) -> Evidence:
    """Kill the command itself, then ask for the status, then give the same command again."""
    with trial.lab() as lab:
        process = _until(trial, lab)
        at = lab.steps()
        lab.kill(process)
        _require_stopped(lab)
        lab.submit()
        return trial.same(lab, "`status` told the truth, the same command continued it", at=at)


def interrupt(trial: Trial) -> Evidence:
    """Press Ctrl-C."""
    return _stopped(trial, lambda lab, process: process.send_signal(signal.SIGINT))


def terminate(trial: Trial) -> Evidence:
    """Send SIGTERM, as a batch system does."""
    return _stopped(trial, lambda lab, process: process.send_signal(signal.SIGTERM))


def cancel(trial: Trial) -> Evidence:
    """Say `cancel` in another terminal."""
    return _stopped(trial, lambda lab, process: lab.tell("cancel"))


def twins(trial: Trial) -> Evidence:
    """Give the same command twice at once."""
    with trial.lab() as lab:
        both = lab.start(), lab.start()
        for process in both:
            lab.wait(process)
        (submission,) = lab.status()
        return trial.same(lab, f"one run, {submission['run_id'][:8]}, shown by both commands to its end")


def heir(trial: Trial) -> Evidence:
    """Give the same command twice, and kill the one that runs it.

    What trains is held until the second command is there, which takes it longer than some trainings take.
    """
    with trial.lab(hang_after_s=0) as lab:
        process = lab.begin()
        before = lab.wait_for_step(trial.random.randint(INTERVAL + 2, STEPS // 2), process)
        trainer = lab.find(process, *TRAINERS)
        trainer.suspend()
        second = lab.start()
        wait_for("the second shows the first", lambda: "does the same already" in lab.said(second), unless=second)
        trainer.resume()
        lab.wait_for_step(before + 1, process)
        at = lab.steps()
        lab.kill(process)
        if "going on here" not in lab.wait(second):
            raise Broken("the second command did not take over")
        return trial.same(lab, "the second command took over, in the same run", at=at)


def _until(trial: Trial, lab: Lab) -> subprocess.Popen[str]:
    """Start a submission, and return it when it is in the middle of its second epoch."""
    process = lab.begin()
    lab.wait_for_step(trial.random.randint(STEPS + 10, STEPS + 30), process)
    return process


def _checkpoints(lab: Lab) -> set[int]:
    found = lab.home.path.glob("stages/*/checkpoints/*")
    return {int(path.name) for path in found if path.name.isdigit()}


def _survives(lab: Lab, process: subprocess.Popen[str]) -> None:
    """Require that a submission comes to its end by itself, after another attempt."""
    if "attempt 2" not in lab.wait(process):
        raise Broken("nothing tells that the stage began again")


def _stopped(trial: Trial, stop: object) -> Evidence:
    assert callable(stop)
    with trial.lab() as lab:
        process = _until(trial, lab)
        began = time.monotonic()
        stop(lab, process)
        lab.wait(process, code=STOPPED)
        seconds = time.monotonic() - began
        if seconds > STOP_S:
            raise Broken(f"it took {seconds:.0f} s to end, and not {STOP_S:.0f}")
        wait_for("its processes end", lambda: not lab.family(process))
        at = lab.steps()
        _require_stopped(lab)
        lab.submit()
        return trial.same(
            lab, f"all ended within {seconds:.1f} s, exit code {STOPPED}; the same command continued", at=at
        )


def _require_stopped(lab: Lab) -> None:
    """Raises: Broken where `status` takes anything for running."""
    (submission,) = lab.status()
    states = [submission["state"], *(stage["state"] for stage in submission["stages"])]
    if states[0] != "stopped" or "running" in states:
        raise Broken(f"`status` says {', '.join(states)} of what was ended")
