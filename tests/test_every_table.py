"""Every shipped table fits its pipelines: its rows are theirs, its columns what their stages end with."""

from __future__ import annotations

import functools
import re

import pytest

import jobs
from benchmarks import step_cost
from orchestration import fingerprint, spec
from orchestration.table import goal as table_goal
from orchestration.table import read as table_read
from orchestration.table import spec as table_spec
from orchestration.table.collect import collect
from orchestration.table.text import Format, render

FIELDS = ("What", "Command", "Cost", "Expected", "Source")
NO_PIPELINE = "no_pipeline"  # the flag of a row that nothing shipped fills
PAPER = {*(f"table-{i}" for i in range(1, 7)), "voc-detection", "training-time", "figure-4", "figure-5"}
SELECTED = [name for name in sorted(table_spec.shipped()) if not table_read.load(name).pipeline]


@functools.cache
def goal_of(name: str) -> table_goal.Goal:
    return table_goal.find(table_read.load(name), None)


@functools.cache
def pipeline_of(name: str) -> spec.PipelineSpec:
    return spec.load(name)


def test_the_papers_tables_are_there() -> None:
    assert PAPER | {"clsa-ablation", "spcl-ablation", "quickstart", "methods"} <= set(table_spec.shipped())


@pytest.mark.parametrize("name", sorted(table_spec.shipped()))
def test_the_head_says_what_it_is(name: str) -> None:
    head = table_spec.shipped()[name].read_text("ascii").split("title:")[0].splitlines()
    fields = [found[1] for line in head if (found := re.match(r"# (\w+): +\S", line))]
    assert fields == list(FIELDS)
    assert f"# Command:  leoclr-ops table {name}" in head


@pytest.mark.parametrize("name", sorted(set(table_spec.shipped()) - set(SELECTED)))
def test_a_table_asks_for_what_its_pipeline_makes(name: str) -> None:
    table = table_read.load(name)
    pipeline = pipeline_of(table.pipeline)
    for row in table.rows:
        assert any(row.labels.items() <= arm.labels.items() for arm in pipeline.arms), row
    for column in table.columns:
        kinds = {arm.stages[column.stage].kind for arm in pipeline.arms if column.stage in arm.stages}
        assert kinds, f"no arm has a stage `{column.stage}`"
        for kind in kinds:
            known = {metric.name: metric for metric in jobs.module(kind).METRICS}
            assert column.metric in known, f"{kind} does not end with `{column.metric}`: {sorted(known)}"
            assert column.better == known[column.metric].better


@pytest.mark.parametrize("name", SELECTED)
def test_each_cell_has_a_pipeline_that_fills_it_or_the_row_says_that_none_does(name: str) -> None:
    table = table_read.load(name)
    goal = goal_of(name)
    assert goal.cells == len(goal.missing)
    rows = {row.title: row for row in table.rows}
    for each in goal.missing:
        assert bool(each.stages) != (NO_PIPELINE in rows[each.row].flags), f"{each.row}, {each.column}: {each.stages}"
    for column in table.columns:
        known = {metric.name: metric.better for metric in jobs.module(column.stage).METRICS}
        assert known.get(column.metric, column.better) == column.better
        assert column.metric.replace("top5", "top1") in {*known, table_spec.HOURS, "random_crop_top1"}


@pytest.mark.parametrize("name", SELECTED)
def test_all_that_fills_a_cell_is_one_recipe(name: str) -> None:
    """Seeds apart: two recipes in one cell would leave it empty."""
    for each in goal_of(name).missing:
        recipes = set()
        for pipeline, arm, stage in each.stages:
            stages = next(found for found in pipeline_of(pipeline).arms if found.name == arm).stages
            below = [stages[need] for need in stages[stage].needs]
            params = [{**part.params_json, "seed": None} for part in (stages[stage], *below)]
            recipes.add(fingerprint.digest_of(params))
        assert len(recipes) < 2, f"{each.row}, {each.column}: {each.stages}"


@pytest.mark.parametrize("name", SELECTED)
@pytest.mark.parametrize("form", ["text", "md", "csv", "latex", "html"])
def test_it_shows_what_is_published_before_anything_ran(name: str, form: Format) -> None:
    table = table_read.load(name)
    text = render(collect(table, None), form)
    for (_, title), claim in table.published.items():
        decimals = next(column.decimals for column in table.columns if column.title == title)
        shown = (
            "unknown" if claim.value is None else repr(claim.value) if form == "csv" else f"{claim.value:.{decimals}f}"
        )
        assert shown in text


@pytest.mark.parametrize("name", ["equal-compute", "imagenet-equal-compute", "training-time"])
def test_passes_are_those_of_the_methods(name: str) -> None:
    """Epochs times the passes of each image, as `step_cost` counts them from the method's own views."""
    table = table_read.load(name)
    goal = goal_of(name)
    for row in table.rows:
        if not (passes := row.facts.get("passes") or row.facts.get("passes an image")):
            continue
        pipeline, arm, _ = next(each.stages[0] for each in goal.missing if each.row == row.title)
        stages = next(found for found in pipeline_of(pipeline).arms if found.name == arm).stages
        params = next(stage.params for stage in stages.values() if stage.kind == "pretrain")
        units = step_cost.theory(params)
        assert passes == units * params.epochs if "passes" in row.facts else passes == units


@pytest.mark.parametrize("name", sorted(spec.shipped()))
def test_a_pipeline_without_a_table_gets_one_with_all_its_numbers(name: str) -> None:
    pipeline = pipeline_of(name)
    table = table_spec.default(pipeline)
    seeds = {arm.labels.get("seed") for arm in pipeline.arms}
    assert len(table.rows) == len(pipeline.arms) // len(seeds)
    stages = {name: each for arm in pipeline.arms for name, each in arm.stages.items()}
    assert {(column.stage, column.metric) for column in table.columns} == {
        (name, metric.name) for name, each in stages.items() for metric in jobs.metrics(each.kind, each.params)
    }
    assert len(table.columns) == sum(len(jobs.metrics(each.kind, each.params)) for each in stages.values())
