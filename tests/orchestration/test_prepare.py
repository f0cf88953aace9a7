"""A plan knows the data by its digest and what the store remembers, and looks at no image that it does not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from leoclr import data as datasets
from leoclr.data.contract import DataError
from orchestration import spec
from orchestration.errors import DataProblem, SpecError
from orchestration.plan import State
from orchestration.prepare import digests, look_over, prepare
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store

PIPELINE = """
stages:
  pretrain: {params: {dataset: mnist5k, method: random, epochs: 0}}
  transfer: {needs: [pretrain], params: {dataset: digits}}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> PipelineSpec:
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return spec.load(str(tmp_path / "p.yaml"))


def test_digests_are_of_the_data_sets_in_use(pipeline: PipelineSpec, tmp_path: Path) -> None:
    found = digests(pipeline, Home(tmp_path / "home"))
    assert found == {"": "", **{name: datasets.module(name).digest(tmp_path) for name in ("mnist5k", "digits")}}
    assert not (tmp_path / "home").exists()


def test_without_a_store_all_is_to_do(pipeline: PipelineSpec, tmp_path: Path) -> None:
    made = prepare(pipeline, Home(tmp_path / "home"), None)
    assert [(stage.name, stage.state, stage.why) for stage in made.stages] == [
        ("pretrain", State.TODO, "new"),
        ("transfer", State.TODO, "new"),
    ]
    assert not (tmp_path / "home").exists()


def test_an_interrupted_run_of_the_store_is_continued(pipeline: PipelineSpec, home: Home, store: Store) -> None:
    first = prepare(pipeline, home, store)
    run_id = store.begin_stage(first.stages[0], parent="p", pipeline="p", arm_labels={}, resume=None)
    store.end(run_id, "KILLED")
    again = prepare(pipeline, home, store)
    assert (again.stages[0].resume, again.stages[0].why) == (run_id, f"continues run {run_id:.8} (interrupted)")


def test_a_data_set_lies_where_the_file_says_else_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def digest(root: Path) -> str:
        asked.append(root)
        return "d" * 64

    (tmp_path / "p.yaml").write_text(PIPELINE + "data: {digits: elsewhere}\n")
    for name in ("mnist5k", "digits"):
        monkeypatch.setattr(datasets.module(name), "digest", digest)
    digests(spec.load(str(tmp_path / "p.yaml")), Home(tmp_path / "home"))
    assert asked == [tmp_path / "elsewhere", tmp_path / "home" / "data" / "mnist5k"]


@pytest.mark.parametrize(("given", "told"), [("", "--data digits=DIR"), ("unpack it", "unpack it")])
def test_a_missing_data_set_is_the_users_to_mend(
    given: str, told: str, pipeline: PipelineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(root: Path) -> str:
        raise DataError(f"{root}: no such folder", given)

    monkeypatch.setattr(datasets.module("digits"), "digest", digest)
    with pytest.raises(DataProblem, match="no such folder") as caught:
        prepare(pipeline, Home(tmp_path), None)
    assert caught.value.place == "data set digits"
    assert told in caught.value.hint


CONTRAST = """
stages:
  pretrain:
    params: {dataset: mnist5k, method: moco_v2, backbone: resnet18, width: 4, image_size: 28, sync_bn: %s,
             settings: {queue_size: 4001, blur_p: 0.0, shuffle_bn: %s}}
"""


def looked_over(folder: Path, *, sync_bn: str, shuffle_bn: str) -> list[str]:
    path = folder / "contrast.yaml"
    path.write_text(CONTRAST % (sync_bn, shuffle_bn))
    loaded = spec.load(str(path))
    home = Home(folder / "a" / "home")
    return [note.fact for note in look_over(loaded, prepare(loaded, home, None), home)]


def test_a_pipeline_is_looked_over_with_the_real_size_of_its_data(tmp_path: Path) -> None:
    (fact,) = looked_over(tmp_path, sync_bn="false", shuffle_bn="true")
    assert fact == "the queue holds 4001 keys, but mnist5k has 4000 images: each is its own negative"
    assert not (tmp_path / "a").exists()


def test_a_contradiction_is_refused_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        looked_over(tmp_path, sync_bn="true", shuffle_bn="true")
    assert caught.value.place.endswith("contrast.yaml: stages.pretrain.params.sync_bn")
    assert len(looked_over(tmp_path, sync_bn="true", shuffle_bn="false")) == 1


def test_all_missing_data_sets_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "stages: {pretrain: {params: {dataset: cifar10, method: leoclr}}, "
        "linear: {needs: [pretrain], params: {dataset: pets, protocol: moco}}}"
    )
    with pytest.raises(DataProblem) as caught:
        digests(spec.load(str(path)), Home(tmp_path / "home"))
    assert caught.value.fact.startswith("2 data sets cannot be read:\n  cifar10: ")
    assert "\n  pets: " in caught.value.fact
    assert "--data cifar10=DIR, --data pets=DIR" in caught.value.hint
    assert "leoclr-ops data fetch cifar10" in caught.value.hint


def test_a_data_set_whose_content_is_damaged_is_the_users_to_mend(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(b"no pickle")
    path = tmp_path / "p.yaml"
    path.write_text(f"{CONTRAST}data: {{cifar10: {tmp_path}}}\n".replace("mnist5k", "cifar10") % ("false", "true"))
    loaded, home = spec.load(str(path)), Home(tmp_path / "home")
    with pytest.raises(DataProblem, match=r"batches\.meta: not a CIFAR file") as caught:
        look_over(loaded, prepare(loaded, home, None), home)
    assert caught.value.place == "data set cifar10"


def test_a_folder_that_the_system_refuses_is_the_users_to_mend(
    pipeline: PipelineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(root: Path) -> str:
        raise PermissionError(13, "Permission denied", str(root))

    monkeypatch.setattr(datasets.module("digits"), "digest", digest)
    with pytest.raises(DataProblem, match="data set digits: .*digits: Permission denied"):
        prepare(pipeline, Home(tmp_path), None)
