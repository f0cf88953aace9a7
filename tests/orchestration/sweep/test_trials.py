"""How many trials run at once where nobody says: as many as there is room for, and not as many as there are CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from orchestration import schedule
from orchestration.schedule import Ask, Size
from orchestration.spec import StageSpec
from orchestration.storage import Home
from orchestration.sweep import plan as sweep_plan
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep.ledger import Asked, Ledger
from orchestration.sweep.trial_spec import Planner
from orchestration.sweep.trials import UNASKED, Desk, Trials

BASE = """
stages:
  pretrain:
    params: {dataset: digits, image_size: 16, width: 2, epochs: 2, settings: {queue_size: 64}}
    resources: RESOURCES
  linear: {needs: [pretrain], params: {dataset: digits, protocol: small}}
"""
SWEEP = """
base: base.yaml
set: {matrix.method: [leoclr]}
axes: {pretrain.params.lr: [0.1, 0.2]}
objectives: {top-1: {stage: linear, metric: top1}}
"""


class Nodes:
    """The sizes of a cluster's nodes, which is all that counts here."""

    def __init__(self, nodes: Sequence[Size]) -> None:
        self.nodes = tuple(nodes)

    def ask(self, stage: StageSpec) -> Ask:
        return schedule.ask(stage.resources, stage.params, has_gpus=any(node.gpus for node in self.nodes))


@pytest.mark.parametrize(
    ("nodes", "resources", "seeds", "expected"),
    [
        ([Size(2, 0)], "{}", 1, 2),  # a laptop
        ([Size(96, 8)], "{workers: 8, cpus_per_worker: 8}", 1, 1),  # the whole machine for one pre-training
        ([Size(96, 8)] * 4, "{workers: 8, cpus_per_worker: 8, placement: strict_pack}", 1, 4),
        ([Size(96, 8)] * 4, "{workers: 4, cpus_per_worker: 8, placement: strict_spread}", 1, 8),
        ([Size(96, 8)], "{}", 1, 8),  # a GPU each, not a CPU each
        ([Size(96, 8)], "{}", 3, 2),  # a trial of three seeds has three arms side by side
        ([Size(2, 0)], "{workers: 4}", 1, 1),  # it never fits, which is told where it is opened
        ([Size(1e9, 0)], "{}", 1, UNASKED),  # nodes that an autoscaler brings, of any size
    ],
)
def test_as_many_as_fit(tmp_path: Path, nodes: list[Size], resources: str, seeds: int, expected: int) -> None:
    (tmp_path / "base.yaml").write_text("matrix: {method: {leoclr: {}}}" + BASE.replace("RESOURCES", resources))
    (tmp_path / "s.yaml").write_text(SWEEP)
    sweep = sweep_spec.load(str(tmp_path / "s.yaml"))
    home = Home(tmp_path / "home")
    desk = Desk(cast("Any", Nodes(nodes)), *cast("Any", (None, home, None)), "run")
    trials = Trials(sweep, Ledger(tmp_path / "ledger"), Planner(sweep, home, []), desk)
    point = next(sweep_plan.probes(sweep))
    assert trials.at_once(Asked(0, point, tuple(range(seeds)))) == expected
