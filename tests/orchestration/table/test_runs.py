"""Which of all tracked runs belong into a cell, and why the others do not."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from leoclr import RESULTS_VERSION
from orchestration import records
from orchestration.records import StageRun, Status
from orchestration.table.collect import Table, collect
from orchestration.table.read import PATHS
from orchestration.table.spec import HOURS, Column, Difference, Published, Row, TableSpec


class _Store:
    """Remembers pre-trainings and linear evaluations as the tracking store does."""

    def __init__(self) -> None:
        self.runs: list[StageRun] = []
        self.asked: dict[str, Sequence[str] | None] = {}  # data sets by kind

    def add(self, method: str, seed: int, top1: float, **more: Any) -> StageRun:
        """Add a pre-training and its evaluation; return the latter."""
        pretrain = {
            "method": method,
            "dataset": "cifar10",
            "epochs": 200,
            "batch": 256,
            "seed": seed,
            **more.get("pretrain", {}),
        }
        params = {"dataset": "cifar10", "seed": 0, "settings": {"epochs": 100}, **more.get("params", {})}
        tags = {records.PROTOCOL: "moco 1", records.RESULTS_VERSION: str(RESULTS_VERSION), **more.get("tags", {})}
        origin = self._run("pretrain", pretrain, {}, {}, "FINISHED")
        inputs = {records.INPUTS: json.dumps({"pretrain": origin.tags[records.FINGERPRINT]}), **tags}
        return self._run("linear", params, inputs, {"top1": top1}, more.get("status", "FINISHED"))

    def _run(
        self, kind: str, params: dict[str, Any], tags: dict[str, str], metrics: dict[str, float], status: Status
    ) -> StageRun:
        number = len(self.runs)
        tags = {records.FINGERPRINT: f"{number:016x}", records.DIGEST: "d", records.PIPELINE: "p", **tags}
        tags.setdefault(records.RESULTS_VERSION, str(RESULTS_VERSION))
        run_id = f"{number:08x}" + "0" * 24
        run = StageRun(run_id, kind, kind, "", status, metrics, tags, params, number, number, "f" * 32)
        self.runs.append(run)
        return run

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]:
        self.asked[kind] = datasets
        found = [run for run in reversed(self.runs) if run.kind == kind]
        return found if datasets is None else [run for run in found if run.params.get("dataset") in datasets]

    def submissions(self, pipeline: str | None = None, *, newest: int | None = None) -> list[Any]:
        return []

    def submission(self, run_id: str) -> None:
        return None

    def stage_runs(self, run_ids: Any) -> dict[str, StageRun]:
        return {run.run_id: run for run in self.runs if run.run_id in run_ids}

    def find(self, reference: str) -> str:
        return reference


def _paths(runs: dict[str, Any]) -> dict[str, Any]:
    return {PATHS.get(key, key): value for key, value in runs.items()}


def _spec(column: Column | None = None, **runs: Any) -> TableSpec:
    selectors = {"LeOCLR": {"method": "leoclr"}, "MoCo-v2": {"method": "moco_v2"}}
    rows = tuple(
        Row(title, {}, title, _paths(each), {"epochs": 200 if title == "LeOCLR" else 800})
        for title, each in selectors.items()
    )
    return TableSpec(
        "t", "", rows, (column or Column("top-1", "linear", "top1"),), {("LeOCLR", "top-1"): Published(71.7)}, "paper",
        pipelines=("own",), runs=_paths({"dataset": "cifar10", "protocol": "moco", **runs}), equal=("epochs",),
        differences=(Difference("LeOCLR", "MoCo-v2", "gap"),),
    )  # fmt: skip


def _table(store: _Store, spec: TableSpec | None = None) -> Table:
    return collect(spec or _spec(), store)


def test_a_cell_is_the_mean_of_the_seeds_that_the_selectors_leave() -> None:
    store = _Store()
    mine = [store.add("leoclr", seed, value) for seed, value in enumerate((70.0, 72.0, 74.0))]
    store.add("moco_v2", 0, 60.0)
    store.add("leoclr", 3, 10.0, params={"dataset": "stl10"})
    [[leoclr], [moco]] = _table(store).cells
    assert (leoclr.mean, leoclr.std, leoclr.n) == (72.0, statistics.stdev((70.0, 72.0, 74.0)), 3)
    assert set(leoclr.run_ids) == {run.run_id for run in mine}
    assert (moco.mean, moco.n) == (60.0, 1)


@pytest.mark.parametrize(
    ("runs", "n"),
    [
        ({"epochs": 200}, 1),
        ({"epochs": 200.0}, 1),
        ({"epochs": 800}, 0),
        ({"batch": 512}, 0),
        ({"params.settings.epochs": 100}, 1),
        ({"params.settings.epochs": 90}, 0),
        ({"params.settings.epochs.deep": 1}, 0),
        ({"pretrain.seed": 0, "pretrained_on": "cifar10"}, 1),
        ({"pretrain.no_such": None}, 1),
        ({"protocol": "byol"}, 0),
        ({"protocol": "mo"}, 0),  # a whole name
    ],
)
def test_a_selector_asks_for_params_of_the_run_and_of_its_pretraining(runs: dict[str, Any], n: int) -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    assert _table(store, _spec(**runs)).cells[0][0].n == n


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"status": "FAILED"}, "failed in run 00000001"),
        ({"status": "RUNNING"}, "running in run 00000001"),
        ({"tags": {records.RESULTS_VERSION: "1"}}, f"results version 1 in run 00000001, now {RESULTS_VERSION}"),
        ({"tags": {records.PROTOCOL: "moco 1, changed: epochs, lrs"}}, "protocol changed in run 00000001: epochs, lrs"),
    ],
)
def test_a_run_that_may_not_count_is_the_reason(more: dict[str, Any], reason: str) -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0, **more)
    cell = _table(store).cells[0][0]
    assert (cell.n, cell.missing, cell.published) == (0, reason, Published(71.7))


def test_no_run_is_not_run_and_a_row_may_say_why() -> None:
    assert _table(_Store()).cells[0][0].missing == "not run"
    assert collect(_spec(), None).cells[0][0].missing == "not run"


def test_a_changed_setting_that_the_table_asks_for_is_the_tables_own() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0, tags={records.PROTOCOL: "moco 1, changed: epochs"})
    assert _table(store, _spec(**{"params.settings.epochs": 100})).cells[0][0].n == 1
    assert _table(store, _spec(**{"params.settings.epoch": None})).cells[0][0].n == 0  # another setting


def test_recipes_are_never_averaged() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0, pretrain={"settings": {"temperature": 0.1}})
    store.add("leoclr", 1, 72.0, pretrain={"settings": {"temperature": 0.2}})
    cell = _table(store).cells[0][0]
    assert cell.n == 0
    assert cell.missing.startswith(
        "2 recipes match, as 00000003 and 00000001: pretrain.settings.temperature 0.2 -> 0.1"
    )
    assert _table(store, _spec(**{"pretrain.settings.temperature": 0.1})).cells[0][0].mean == 70.0


def test_the_tables_own_pipelines_come_before_other_recipes() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0, pretrain={"settings": {"temperature": 0.1}}, tags={records.PIPELINE: "own"})
    store.add("leoclr", 1, 72.0, pretrain={"settings": {"temperature": 0.2}}, tags={records.PIPELINE: "sweep"})
    assert _table(store).cells[0][0].mean == 70.0


def test_a_failed_run_of_another_recipe_does_not_empty_a_cell() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    store.add("leoclr", 1, 0.0, pretrain={"lr": 9.0}, status="FAILED")
    assert _table(store).cells[0][0].mean == 70.0


def test_other_data_is_another_recipe() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    store.add("leoclr", 1, 72.0, tags={records.DIGEST: "e"})
    assert "2 recipes match" in _table(store).cells[0][0].missing


def test_a_seed_that_ran_twice_counts_once_by_its_last_finished_run() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    again = store.add("leoclr", 0, 71.0)
    store.add("leoclr", 0, 99.0, status="FAILED")
    cell = _table(store).cells[0][0]
    assert (cell.mean, cell.n, cell.run_ids) == (71.0, 1, (again.run_id,))


def test_rows_of_other_lengths_are_not_ranked_but_their_difference_is_told() -> None:
    store = _Store()
    for seed in range(3):
        store.add("leoclr", seed, 80.0 + seed)
        store.add("moco_v2", seed, 70.0 + seed)
    table = _table(store)
    assert not any(row[0].best for row in table.cells)  # 200 and 800 epochs
    [gap] = table.apart[0].gaps
    assert gap is not None
    assert (gap.mean, gap.n, gap.paired) == (10.0, 3, True)


def test_a_run_whose_pretraining_is_gone_belongs_nowhere() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    del store.runs[0]
    assert _table(store).cells[0][0].missing == "not run"


def test_hours_are_those_of_all_attempts() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0, tags={records.SECONDS: "5400.0"})
    assert _table(store, _spec(Column("hours", "linear", HOURS, "lower"))).cells[0][0].mean == 1.5


@pytest.mark.parametrize(
    ("runs", "linear", "pretrain"),
    [
        ({"pretrained_on": "stl10"}, ["cifar10"], ["stl10"]),
        ({}, ["cifar10"], None),  # it may have been pre-trained on any
        ({"pretrained_on": "made_up"}, ["cifar10"], None),  # of another version of leoclr-ops
    ],
)
def test_a_store_is_asked_for_the_data_sets_of_the_cells_alone(
    runs: dict[str, str], linear: list[str], pretrain: list[str] | None
) -> None:
    store = _Store()
    _table(store, _spec(**runs))
    assert store.asked == {"linear": linear, "pretrain": pretrain}


def test_a_column_of_pretrainings_is_asked_for_by_what_they_are_pretrained_on() -> None:
    store = _Store()
    store.add("leoclr", 0, 70.0)
    store.add("leoclr", 1, 60.0, pretrain={"dataset": "stl10"})
    spec = replace(_spec(Column("top-1", "pretrain", HOURS)), runs={"pretrain.dataset": "cifar10"})
    [[cell], _] = _table(store, spec).cells
    assert store.asked == {"pretrain": ["cifar10"]}
    assert cell.missing == "no hours in run 00000000"  # it belongs there; the other one does not
