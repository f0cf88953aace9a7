"""The tables on paper: stages once a seed, times that add up by hand, and no schedule better than the bound."""

from __future__ import annotations

import pytest

from benchmarks import schedule
from orchestration import effort, spec
from orchestration.timeline import simulate

HOURS = 53 * 200 / 200  # of MoCo-v2, 200 epochs, 8 V100: facebookresearch/moco, README.md
LINEAR = 90 * 1_281_167 / effort.V100 / 8 / 3600  # epochs of SimCLR B.6, forward alone


def test_the_pipelines_of_all_six_tables_are_planned_once_each() -> None:
    names = [pipeline.name for pipeline in schedule.pipelines()]
    assert names == ["imagenet-leoclr-800", "imagenet-baselines", "table-4", "table-5", "imagenet-leoclr-200"]


def test_a_stage_runs_once_a_seed_however_many_pipelines_ask_for_it() -> None:
    table = spec.load("table-4")
    todo = schedule.tasks([table, table], seeds=2, speed=effort.V100)
    assert len(todo) == 2 * 3 * 2
    hours = sorted({round((task.ask.seconds or 0) / 3600, 3) for task in todo if task.title == "pretrain"})
    assert hours == [HOURS * 6 / 4, HOURS * 9 / 4]  # SimCLR twice, LeOCLR end to end
    for gpus, together in ((8, 1), (16, 2)):
        made = simulate(todo, [schedule.NODE] * (gpus // 8))
        whole = 2 * (2 * HOURS * 6 / 4 + HOURS * 9 / 4 + 3 * LINEAR)
        assert made.hours.gpus == pytest.approx(whole * 8)
        bound = schedule.bound_s(todo, gpus)
        assert bound == pytest.approx(max(whole / together, HOURS * 9 / 4 + LINEAR) * 3600)
        assert made.makespan_s >= bound - 1e-6
    assert simulate(todo, [schedule.NODE]).makespan_s == pytest.approx(schedule.bound_s(todo, 8))
    row = schedule.row(simulate(todo, [schedule.NODE]), schedule.bound_s(todo, 8), dollars=2.0)
    assert row.startswith("| 8 | ")
    assert row.endswith(f"| 100% | {whole * 8:,.0f} | {whole * 16:,.0f} | {whole * 16:,.0f} |")
