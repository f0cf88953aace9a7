"""A ledger becomes lines of the display and a result for tables and plots."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.progress import StageView
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep.ledger import Entry, Ledger
from orchestration.sweep.plan import probes
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.view import result, snapshot
from tests.orchestration.sweep.points import contains

TEXT = """
title: a sweep
base: quickstart
axes:
  method: [leoclr, moco_v2]
  pretrain.params.lr: [0.001, 0.01, 0.1]
  share: {"1": {}, "10": {linear.params.seed: 0}, "100": {}}
  kind: {grid: [a, b], when: {method: leoclr}}
objectives:
  top-1: {stage: linear, metric: top1}
  seconds: {stage: linear, metric: top5, direction: min, unit: s}
anchors:
  - {at: {method: moco_v2, pretrain.params.lr: 0.1}, value: 66.2, source: a paper}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepSpec:
    (tmp_path / "s.yaml").write_text(TEXT)
    return sweep_spec.load(str(tmp_path / "s.yaml"))


def entry(number: int, state: str, **more: object) -> Entry:
    point = {"method": "moco_v2", "pretrain.params.lr": 0.1, "share": "10"}
    labels = {"method": "moco_v2", "lr": "0.1", "share": "10"}
    return Entry(number, point, (3,), state, labels=labels, **more)  # type: ignore[arg-type]  # a Literal


def test_axes_say_how_they_are_drawn(sweep: SweepSpec) -> None:
    axes = {axis.name: (axis.values, axis.scale) for axis in result(sweep, {}).axes}
    assert axes == {
        "method": (("leoclr", "moco_v2"), "category"),
        "lr": ((0.001, 0.01, 0.1), "log"),
        "share": ((1, 10, 100), "log"),  # names that are numbers
        "kind": (("a", "b"), "category"),
    }


def test_trials_tell_what_they_are(sweep: SweepSpec) -> None:
    values = {"top-1": 60.0, "seconds": 2.0}
    entries = {0: entry(0, "done", values=values), 1: entry(1, "diverged", reason="nan", values=values)}
    entries |= {2: entry(2, "running")}
    found = result(sweep, entries)
    done, diverged, cut = found.trials
    assert done.point == {"method": "moco_v2", "lr": 0.1, "share": 10}
    assert done.labels == {"method": "MoCo-v2", "lr": "0.1", "share": "10"}  # what a reader is shown
    assert (done.values, done.seed, done.state) == (values, 3, "done")
    assert (diverged.values, diverged.reason, diverged.state) == ({}, "nan", "diverged")
    assert cut.state == "waiting"
    assert result(sweep, entries, alive=True).trials[2].state == "running"
    (anchor,) = found.anchors
    assert (dict(anchor.labels), anchor.objective) == ({"method": "MoCo-v2", "lr": "0.1"}, "top-1")
    assert [each.direction for each in found.objectives] == ["max", "min"]


def test_the_display_has_a_line_for_each_trial(sweep: SweepSpec, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.entries = {0: entry(0, "done", values={"top-1": 60.0}), 1: entry(1, "diverged", reason="nan")}
    running = {2: StageView(name="2", kind="trial", arms=("x",), state="running")}
    shot = snapshot(sweep, ledger, running, total=4, run_id="r", started=0.0)
    assert [view.state for view in shot.stages] == ["done", "stopped", "running", "waiting"]
    assert (shot.stages[0].metric, shot.stages[1].note) == (("top-1", 60.0), "diverged: nan")
    assert len({view.key for view in shot.stages}) == 4


def test_probes_have_every_value_and_lie_inside(sweep: SweepSpec) -> None:
    points = list(probes(sweep))
    assert all(contains(sweep.space, point) for point in points)
    for axis in sweep.space:
        assert {repr(point[axis.name]) for point in points if axis.name in point} == set(map(repr, axis.values))
