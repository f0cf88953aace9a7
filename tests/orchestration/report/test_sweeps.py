"""A sweep stands in a report as `sweep` prints it, and each of its points leads to its trials and their runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestration.report.collect import Chapter
from orchestration.report.sections import run_id
from orchestration.report.sweeps import blocks, figures, trials
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep.page import Grid, page
from orchestration.sweep.result import SweepResult
from tests.made_up_sweeps import augment, factorial, momentum, search
from tests.orchestration.report.test_write import Read


def chapter(result: SweepResult) -> Chapter:
    runs = {trial.run_id: {each.stage: [trial.run_id] for each in result.objectives} for trial in result.trials}
    known = {run: stages for run, stages in runs.items() if run}
    return Chapter("made-up", result.title, "a" * 32, "finished", "here", 0, (), sweep=result, trials=known)


@pytest.mark.parametrize("make", [augment, momentum, factorial, lambda: search(20)])
def test_every_point_leads_to_its_trials_and_these_to_their_runs(make: Callable[[], SweepResult]) -> None:
    result = make()
    text = f"<main>{blocks(result, 2, 'c1')}{figures(result, 'c1')}{trials(chapter(result), 'c1')}</main>"
    read = Read(text)
    wanted = {link.removeprefix("#") for link in read.links}
    assert len(read.ids) == len(set(read.ids))
    of_runs = {run_id(trial.run_id) for trial in result.trials if trial.run_id and trial.values}
    assert wanted - set(read.ids) == of_runs  # which the rest of the page has
    grids = [block for block in page(result) if isinstance(block, Grid)]
    assert read.tags["table"] == len(grids) + 1
    assert read.tags["tr"] == sum(len(grid.rows) for grid in grids) + 1 + len(result.trials)
    assert read.tags["svg"] == read.tags["figcaption"] > 0


@pytest.mark.parametrize("name", sorted(sweep_spec.shipped()))
def test_a_sweep_is_read_back_from_what_its_run_recorded(name: str) -> None:
    loaded = sweep_spec.load(name)
    again = sweep_spec.recorded(loaded.yaml, name)
    assert again.yaml == loaded.yaml
    assert (again.title, again.space, again.goals, again.seeds) == (
        loaded.title, loaded.space, loaded.goals, loaded.seeds,
    )  # fmt: skip
    assert (again.search, again.anchors) == (loaded.search, loaded.anchors)
