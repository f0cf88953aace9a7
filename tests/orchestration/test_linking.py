"""A run is linked with its data and its checkpoint, once, however often that is done; nothing of it can break a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from orchestration import records, spec
from orchestration.naming import Context
from orchestration.plan import PlannedStage
from orchestration.storage import Home
from orchestration.tracking import Store
from tests.orchestration import tracked

ENDED_MS = 1_790_000_000_000


class Desk:
    """A submission with one pre-training and the evaluation after it."""

    def __init__(self, store: Store, folder: Path) -> None:
        tracked.table(folder)
        self.store, self.folder, self.made = store, folder, tracked.planned(folder)
        labels = {arm.name: arm.labels for arm in spec.load(str(folder / "tiny.yaml")).arms}
        self.parent = store.begin_submission(self.made, title="", spec_yaml="", arm_labels=labels, resume=None)
        self.pretrain, self.knn = (next(s for s in self.made.stages if s.kind == kind) for kind in ("pretrain", "knn"))

    def begin(self, stage: PlannedStage, origin_run: str | None = None, resume: str | None = None) -> str:
        context = Context(self.pretrain if origin_run else None, origin_run)
        return self.store.begin_stage(
            stage, parent=self.parent, pipeline="tiny", arm_labels={}, resume=resume, context=context
        )

    def finish(self, run_id: str, **metrics: float) -> None:
        result = self.folder / run_id
        if not result.exists():
            tracked.result(result, b"{}")
        self.store.finish_stage(run_id, metrics=metrics, result=result, ended_ms=ENDED_MS)

    def models(self) -> list[LoggedModel]:
        return list(self.store._client.search_logged_models([self.store.experiment]))

    def run(self, run_id: str) -> Any:
        return self.store._client.get_run(run_id)


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path)


def test_a_checkpoint_is_listed_with_the_numbers_of_all_that_stand_on_it(desk: Desk, home: Home) -> None:
    first = desk.begin(desk.pretrain)
    desk.finish(first, knn_top1=50.0)
    second = desk.begin(desk.knn, first)
    desk.finish(second, top1=80.0, top5=math.nan)
    (model,) = desk.models()
    assert (model.name, model.source_run_id, model.model_type) == ("pretrain leoclr seed=0", first, "backbone")
    assert str(model.status) == "READY"
    told = {(each.key, each.value, each.dataset_name, each.run_id) for each in model.metrics}
    assert told == {("pretrain/knn_top1", 50.0, "mnist5k", first), ("knn/top1", 80.0, "mnist5k", second)}
    assert model.params["pretrain.settings.temperature"] == "0.2"
    pointer = home.artifacts / "models" / model.model_id / "artifacts" / "checkpoint.json"
    assert json.loads(pointer.read_text())["weights"] == f"runs:/{first}/backbone.safetensors"
    manifest = json.loads((desk.folder / first / "manifest.json").read_text())
    assert model.tags["leoclr.sha256"] == manifest["files"]["backbone.safetensors"]["sha256"]
    assert [each.model_id for each in desk.run(second).inputs.model_inputs] == [model.model_id]
    assert [each.model_id for each in desk.run(first).outputs.model_outputs] == [model.model_id]


def test_runs_show_their_data_set_and_its_digest(desk: Desk) -> None:
    run_id = desk.begin(desk.pretrain)
    (entry,) = desk.run(run_id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("mnist5k", tracked.DIGEST)
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_all_of_it_twice_is_all_of_it_once(desk: Desk) -> None:
    first = desk.begin(desk.pretrain)
    assert desk.begin(desk.pretrain, resume=first) == first
    for _ in range(2):
        desk.finish(first, knn_top1=50.0)
    second = desk.begin(desk.knn, first)
    assert desk.begin(desk.knn, first, resume=second) == second
    for _ in range(2):
        desk.finish(second, top1=80.0)
    (model,) = desk.models()
    assert len(model.metrics) == 2
    for run_id in (first, second):
        assert len(desk.run(run_id).inputs.dataset_inputs) == 1
    assert len(desk.run(second).inputs.model_inputs) == len(desk.run(first).outputs.model_outputs) == 1


def test_a_kill_before_the_run_knew_its_model_leaves_no_second_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first = desk.begin(desk.pretrain)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(desk.store._client, "log_outputs", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.finish(first, knn_top1=50.0)
    desk.finish(first, knn_top1=50.0)
    assert [model.source_run_id for model in desk.models()] == [first]


def test_a_run_of_an_earlier_version_gets_its_model_when_something_stands_on_it(
    desk: Desk, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.begin(desk.pretrain)
    with monkeypatch.context() as patch:
        patch.setattr("orchestration.linking.checkpoint", lambda *_: None)
        desk.finish(first, knn_top1=50.0)
    assert desk.models() == []
    desk.store = Store.open(home)
    desk.begin(desk.knn, first)
    assert [model.source_run_id for model in desk.models()] == [first]


def test_a_server_that_knows_no_models_records_all_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise MlflowException("404", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(desk.store._client, "search_logged_models", unknown)
    first = desk.begin(desk.pretrain)
    desk.finish(first, knn_top1=50.0)
    second = desk.begin(desk.knn, first)
    desk.finish(second, top1=80.0)
    assert desk.store.stage_runs([second])[second].metrics == {"top1": 80.0}
    assert desk.run(second).data.metrics == {"final/top1": 80.0, "knn/top1": 80.0}
    assert {run.status for run in desk.store.stage_runs([first, second]).values()} == {"FINISHED"}


def test_what_a_user_wrote_into_a_run_stays_when_it_goes_on(desk: Desk) -> None:
    run_id = desk.begin(desk.pretrain)
    desk.store.set_tags(run_id, {"mlflow.note.content": "mine", records.REASON: ""})
    desk.begin(desk.pretrain, resume=run_id)
    assert desk.run(run_id).data.tags["mlflow.note.content"] == "mine"
