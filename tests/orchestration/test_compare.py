"""`ui --compare` finds the runs behind a name, and makes MLflow's address of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from leoclr import RESULTS_VERSION
from orchestration import compare, plan, spec
from orchestration.errors import NotFound
from orchestration.provenance import Owner
from orchestration.sweep import records as sweep_records
from orchestration.tracking import Store
from tests.orchestration import tracked


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> dict[str, str]:
    tracked.table(tmp_path)
    return tracked.finish(store, tmp_path)


def _table(tmp_path: Path) -> str:
    return str(tmp_path / "tiny-table.yaml")


def test_a_table_means_the_runs_of_a_column_in_the_order_of_its_rows(
    store: Store, tmp_path: Path, runs: dict[str, str]
) -> None:
    found = compare.find(store, _table(tmp_path), None)
    arms = ("leoclr seed=0", "leoclr seed=1", "moco_v2 seed=0", "moco_v2 seed=1")
    assert found.run_ids == tuple(runs[f"knn {arm}"] for arm in arms)
    assert compare.find(store, _table(tmp_path), "kNN") == found
    with pytest.raises(NotFound, match="has no column 'kNNs'") as caught:
        compare.find(store, _table(tmp_path), "kNNs")
    assert caught.value.hint == "did you mean `kNN`?"


def test_an_empty_table_says_how_to_fill_it(store: Store, tmp_path: Path) -> None:
    tracked.table(tmp_path)
    with pytest.raises(NotFound, match="no finished run is behind table") as caught:
        compare.find(store, _table(tmp_path), None)
    assert caught.value.hint == f"leoclr-ops plan --table {_table(tmp_path)}"


def test_a_pipeline_and_a_submission_mean_the_runs_of_a_stage(store: Store, runs: dict[str, str]) -> None:
    found = compare.find(store, "tiny", "knn")
    assert set(found.run_ids) == {run for name, run in runs.items() if name.startswith("knn")}
    assert found.others == ("pretrain",)
    (submission,) = store.submissions()
    assert compare.find(store, submission.run_id[:8], "knn") == found
    with pytest.raises(NotFound, match="is a single stage"):
        compare.find(store, found.run_ids[0], None)


def test_a_sweep_means_its_finished_trials_with_params_of_their_own(store: Store, tmp_path: Path) -> None:
    tracked.table(tmp_path)
    tags = sweep_records.sweep_tags("hot", title="Hot", owner=Owner.current(), now_ms=time.time_ns() // 1_000_000)
    sweep = store.begin(tags, {}, resume=None)
    trials = [_trial(store, tmp_path, sweep, number) for number in range(3)]
    store.end(trials[0], "FINISHED")
    store.end(trials[2], "FINISHED")
    assert set(compare.find(store, "hot", None).run_ids) == {trials[0], trials[2]}
    assert compare.find(store, sweep[:8], None) == compare.find(store, "hot", None)
    params = store._client.get_run(trials[2]).data.params
    assert (params["axis.temperature"], params["pretrain.epochs"]) == ("0.2", "2")


def _trial(store: Store, folder: Path, sweep: str, number: int) -> str:
    loaded = spec.load(str(folder / "tiny.yaml"))
    made = plan.make(loaded, digests={"mnist5k": "d"}, past=[], results_version=RESULTS_VERSION)
    tags = sweep_records.trial_tags("hot", parent=sweep, number=number, labels={"temperature": f"0.{number}"})
    labels = {arm.name: arm.labels for arm in loaded.arms}
    return store.begin_submission(made, title="", spec_yaml="", arm_labels=labels, resume=None, extra=tags)


def test_what_means_nothing_is_one_error(store: Store) -> None:
    with pytest.raises(NotFound, match="`quickstrat` is no table, sweep, pipeline or run of this store") as caught:
        compare.find(store, "quickstrat", None)
    assert caught.value.hint == "did you mean `quickstart`?"


def test_the_address_is_that_of_the_page_that_compares_or_of_charts_where_runs_are_many() -> None:
    ids = [f"{i:032x}" for i in range(compare.MOST)]
    page = urlsplit(compare.fragment("7", ids)[1:])
    assert page.path == "/compare-runs"
    query = parse_qs(page.query)
    assert [json.loads(query[key][0]) for key in ("runs", "experiments")] == [ids, ["7"]]
    page = urlsplit(compare.fragment("7", [*ids, "f" * 32])[1:])
    assert page.path == "/experiments/7/runs"
    query = parse_qs(page.query)
    assert query["compareRunsMode"] == ["CHART"]
    assert query["searchFilter"][0].endswith(f"'{'f' * 32}')")
