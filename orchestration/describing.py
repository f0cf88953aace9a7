"""What came of a submission, on its run: the table in its description; where only seeds differ, its mean numbers."""

from __future__ import annotations

import time

import jobs
from orchestration import naming
from orchestration.records import Point, StageRun
from orchestration.spec import PipelineSpec
from orchestration.table import read as table_read
from orchestration.table import spec as table_spec
from orchestration.table import text as table_text
from orchestration.table.collect import collect
from orchestration.tracking import Store


def describe(spec: PipelineSpec, store: Store, run_id: str, *, is_trial: bool) -> None:
    """Write the description of a submission's run, and the means of what its arms ended with.

    A trial has a part of a pipeline, so that its own stages are its table.
    Raises: LeoclrOpsError when the table's file is wrong, or the store does not answer.
    """
    of_file = spec.table if not is_trial else None
    chosen = table_read.load(of_file) if of_file else table_spec.default(spec)
    table = table_text.render(collect(chosen, store, run_id), "md")
    again = f"`leoclr-ops status {run_id[:8]}` has its stages; provenance/pipeline.yaml makes it again."
    store.describe(run_id, f"{table}\n\n{again}", more=f"And more lines: {again}")
    if numbers := means(spec, store, run_id):
        now_ms = time.time_ns() // 1_000_000
        store.log_points(run_id, [Point(key, value, 0, now_ms) for key, value in numbers.items()])


def means(spec: PipelineSpec, store: Store, run_id: str) -> dict[str, float]:
    """Return by `STAGE/metric` the means over seeds; nothing where arms differ in more, or one is not finished."""
    submission = store.submission(run_id)
    recipes = {tuple((k, v) for k, v in arm.labels.items() if k != table_spec.SEED) for arm in spec.arms}
    if submission is None or len(recipes) > 1:
        return {}
    runs = store.stage_runs(run for stages in submission.arms.values() for run in stages.values())
    found: dict[str, float] = {}
    for name, stage in spec.arms[0].stages.items():
        known = {metric.name for metric in jobs.metrics(stage.kind, stage.params)}
        served = [runs.get(submission.arms.get(arm.name, {}).get(name, "")) for arm in spec.arms]
        ended = [_finals(run, known) for run in served if run and run.status == "FINISHED"]
        if len(ended) == len(spec.arms):
            found |= {f"{name}/{key}": value for key, value in naming.means(ended).items()}
    return found


def _finals(run: StageRun, names: set[str]) -> dict[str, float]:
    return {key: value for key, value in run.metrics.items() if key in names}
