"""Faults around a training: its tracking server goes away, its numbers go wrong, its sweep is killed."""

from __future__ import annotations

import time

from orchestration.chaos.files import FAILED
from orchestration.chaos.lab import NAME, STEPS, Broken
from orchestration.chaos.service import PATIENCE, mlflow
from orchestration.chaos.trial import Evidence, Trial
from orchestration.tracking import Store

AWAY_S = 12.0
SWEEP = f"""
title: temperature
base: {NAME}.yaml
axes:
  pretrain.params.settings.temperature: [0.1, 0.2]
objectives:
  linear top-1: {{stage: linear, metric: top1}}
"""


def tracking(trial: Trial) -> Evidence:
    """Kill MLflow's server while a stage trains, and start it again later."""
    with mlflow(trial.folder.parent / f"{trial.folder.name}-server") as server:  # noqa: SIM117
        with trial.lab(variables={"MLFLOW_TRACKING_URI": server.uri, **PATIENCE}) as lab:
            process = lab.begin()
            before = lab.wait_for_step(STEPS // 3, process)
            server.kill()
            time.sleep(AWAY_S)
            after = lab.steps()
            server.start()
            lab.wait(process)
            text = f"away for {AWAY_S:.0f} s and more: training went from step {before} to {after} meanwhile"
            return trial.same(lab, text, uri=server.uri)


def divergence(trial: Trial) -> Evidence:
    """Train with a learning rate with which no loss stays a number."""
    with trial.lab(lr=1e12) as lab:
        lab.tell("submit", f"{NAME}.yaml", code=FAILED)
        (submission,) = lab.status()
        (stage,) = submission["stages"]
        if "diverged" not in f"{stage['state']} {stage['reason']}".lower():
            raise Broken(f"the stage is `{stage['state']}`: {stage['reason']}")
        return Evidence(f"exit code {FAILED}; {stage['reason']}")


def search(trial: Trial) -> Evidence:
    """Kill the command that drives a sweep, and give it again."""
    with trial.lab() as lab:
        (lab.folder / "few.yaml").write_text(SWEEP)
        process = lab.begin("sweep", "few.yaml")
        lab.wait_for_step(STEPS // 2, process)
        lab.kill(process)
        lab.tell("sweep", "few.yaml")
        store = Store.open(lab.home)
        runs = list(store.stage_runs(run.run_id for run in store.past_runs()).values())
        wrong = [f"{run.stage} {run.status}" for run in runs if run.status != "FINISHED"]
        if wrong or sorted(run.stage for run in runs) != ["linear"] * 2 + ["pretrain"] * 2:
            raise Broken(f"two trials of two stages left {', '.join(wrong) or f'{len(runs)} runs'}")
        return Evidence("two trials, each stage of each once")
