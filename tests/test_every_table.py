"""Every shipped table fits its pipeline: its rows are labels of the matrix, its columns what the stages end with."""

from __future__ import annotations

import pytest

import jobs
from orchestration import spec, table_spec


@pytest.mark.parametrize("name", sorted(table_spec.shipped()))
def test_a_table_asks_for_what_its_pipeline_makes(name: str) -> None:
    table = table_spec.load(name)
    pipeline = spec.load(table.pipeline)
    for row in table.rows:
        assert any(row.labels.items() <= arm.labels.items() for arm in pipeline.arms), row
    for column in table.columns:
        kinds = {arm.stages[column.stage].kind for arm in pipeline.arms if column.stage in arm.stages}
        assert kinds, f"no arm has a stage `{column.stage}`"
        for kind in kinds:
            known = {metric.name: metric for metric in jobs.module(kind).METRICS}
            assert column.metric in known, f"{kind} does not end with `{column.metric}`: {sorted(known)}"
            assert column.better == known[column.metric].better


@pytest.mark.parametrize("name", sorted(spec.shipped()))
def test_a_pipeline_without_a_table_gets_one_with_all_its_numbers(name: str) -> None:
    pipeline = spec.load(name)
    table = table_spec.default(pipeline)
    seeds = {arm.labels.get("seed") for arm in pipeline.arms}
    assert len(table.rows) == len(pipeline.arms) // len(seeds)
    stages = {name: each for arm in pipeline.arms for name, each in arm.stages.items()}
    assert {(column.stage, column.metric) for column in table.columns} == {
        (name, metric.name) for name, each in stages.items() for metric in jobs.metrics(each.kind, each.params)
    }
    assert len(table.columns) == sum(len(jobs.metrics(each.kind, each.params)) for each in stages.values())
