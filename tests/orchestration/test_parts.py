from pathlib import Path

import pytest

from jobs.contract import Resources
from orchestration import spec
from orchestration.errors import SpecError
from orchestration.stages import PipelineSpec

PIPELINE = """
title: two arms
matrix: {method: {leoclr: {}, moco_v2: {}}, seed: [0, 7]}
data: {imagenet: images}
stages:
  pretrain:
    params: {dataset: mnist5k, backbone: resnet18, width: 2, stem: stride2, image_size: 28, epochs: 2, batch: 64}
    resources: {cpus_per_worker: 2}
  knn: {needs: [pretrain], params: {dataset: mnist5k, protocol: small}}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> PipelineSpec:
    (tmp_path / "two.yaml").write_text(PIPELINE)
    return spec.load(str(tmp_path / "two.yaml"))


def test_what_a_run_records_is_read_back_as_it_was(loaded: PipelineSpec) -> None:
    again = spec.recorded(loaded.yaml, "two")
    assert again.arms == loaded.arms
    assert again.yaml == loaded.yaml
    assert (again.name, again.title, again.data) == (loaded.name, loaded.title, loaded.data)


@pytest.mark.parametrize("name", sorted(spec.shipped()))
def test_every_shipped_pipeline_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    loaded = spec.load(name)
    few = spec.part(loaded, {arm.name: arm.stages for arm in loaded.arms[:2]})  # YAML is read at 100 kB a second
    (tmp_path / "again.yaml").write_text(few.yaml)
    again = spec.load(str(tmp_path / "again.yaml"))
    assert (again.name, again.arms, again.yaml) == (few.name, few.arms, few.yaml)


def test_a_change_reaches_every_arm_that_is_written_out(loaded: PipelineSpec, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(loaded.yaml)
    again = spec.load(str(tmp_path / "again.yaml"), ["pretrain.params.epochs=3", "title=other"])
    assert [arm.stages["pretrain"].params_json["epochs"] for arm in again.arms] == [3] * 4
    assert again.title == "other"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("method: leoclr\n        seed: 0", "method: leocl\n        seed: 0", "arms.0: stages.pretrain.params.method"),
        ("arms:\n", "matrix: {}\narms:\n", "two: matrix"),
        ("seed: '7'", "seed: '0'", "two: arms.1"),
        ("    seed: '7'\n", "    seed: [7]\n", "two: arms.1.labels.seed"),
        ("  stages:\n", "  more: 1\n  stages:\n", "two: arms.0.more"),
    ],
)
def test_a_mistake_in_what_a_run_recorded_is_told_where_it_is(
    loaded: PipelineSpec, old: str, new: str, place: str
) -> None:
    text = loaded.yaml.replace(old, new, 1)
    assert text != loaded.yaml
    with pytest.raises(SpecError) as caught:
        spec.recorded(text, "two")
    assert place in caught.value.place


def test_arms_are_a_list_of_bounded_length(loaded: PipelineSpec) -> None:
    for arms in ("{}", "[]", "[" + ", ".join(["{}"] * 1001) + "]"):
        with pytest.raises(SpecError, match="expected a list of 1 to 1000 arms"):
            spec.recorded(f"name: two\narms: {arms}", "two")


def test_a_pipeline_in_another_place_asks_for_what_is_filled_in_and_reads_data_there(loaded: PipelineSpec) -> None:
    def fill(asked: Resources) -> Resources:
        return asked.model_copy(update={"loader_workers": 6})

    there = spec.placed(loaded, fill, {"mnist5k": Path("/data/mnist")})
    assert {stage.resources.loader_workers for arm in there.arms for stage in arm.stages.values()} == {6}
    assert there.arms[0].stages["pretrain"].resources.cpus_per_worker == 2
    assert there.data == {**loaded.data, "mnist5k": Path("/data/mnist")}
    assert spec.recorded(there.yaml, "there").arms == there.arms


def test_a_table_of_this_machine_stays_here(loaded: PipelineSpec, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(PIPELINE + "table: ./own.yaml\n")
    assert spec.placed(spec.load(str(tmp_path / "two.yaml")), lambda asked: asked, {}).table is None
    (tmp_path / "two.yaml").write_text(PIPELINE + "table: quickstart\n")
    assert spec.placed(spec.load(str(tmp_path / "two.yaml")), lambda asked: asked, {}).table == "quickstart"
