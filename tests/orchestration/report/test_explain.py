"""What is told of a run is what is recorded of it, and the command that makes it again really does."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from leoclr import RESULTS_VERSION
from orchestration import plan, records, spec
from orchestration.errors import NotFound
from orchestration.report import words
from orchestration.report.explain import SOUND, Explainer, find_cell, shared
from orchestration.storage import Home
from orchestration.table.collect import collect
from orchestration.tracking import Store
from tests.orchestration import tracked

KNN, PRETRAIN = "knn leoclr seed=0", "pretrain leoclr seed=0"


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> dict[str, str]:
    tracked.table(tmp_path)
    return tracked.finish(store, tmp_path)


def test_the_chain_goes_from_the_data_to_the_code(runs: dict[str, str], store: Store) -> None:
    told = Explainer(store).explain(runs[KNN])
    pretrain = store.stage_runs([runs[PRETRAIN]])[runs[PRETRAIN]]
    assert told.numbers == {"top1": pytest.approx(80.0, abs=10)}
    assert told.facts["data"] == f"mnist5k, digest {tracked.DIGEST}"
    assert told.facts["pre-training"].startswith(f"run {runs[PRETRAIN][:8]}: leoclr on mnist5k: backbone resnet18")
    assert told.facts["checkpoint"].split()[-1] == store.digests(runs[PRETRAIN])["backbone.safetensors"]
    assert told.facts["protocol"] == "small 1"
    assert told.facts["seeds"] == "pretrain 0, knn 0"
    assert told.facts["code"].endswith(f"results version {RESULTS_VERSION}")
    assert "torch " in told.facts["versions"]
    assert told.facts["time"] == "1:00:00 pretrain + 1:00:00 knn"
    assert told.facts["fingerprint"].startswith(f"pretrain {pretrain.tags[records.FINGERPRINT]} -> knn ")
    assert told.facts["verified"] == SOUND
    assert told.defects == ()


def test_a_changed_checkpoint_below_a_run_is_told(runs: dict[str, str], home: Home, store: Store) -> None:
    [path] = [each for each in home.artifacts.rglob("backbone.safetensors") if runs[PRETRAIN] in each.parts]
    path.write_bytes(b"other")
    [defect] = Explainer(store).explain(runs[KNN]).defects
    assert defect == f"run {runs[PRETRAIN][:8]} ({PRETRAIN}): an artifact is damaged (backbone.safetensors)"


def test_the_file_of_a_run_has_its_fingerprints(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    """`tiny` is no shipped pipeline: the command writes a file, whose plan is the run and what it stands on."""
    told = Explainer(store).explain(runs[KNN])
    short = runs[KNN][:8]
    command = f"leoclr-ops explain {short} --yaml > run-{short}.yaml && leoclr-ops submit run-{short}.yaml"
    assert told.recipe.lines == (command,)
    (tmp_path / "again.yaml").write_text(Explainer(store).pipeline(runs[KNN]))
    assert told.recipe.file == (tmp_path / "again.yaml").read_text()
    again = spec.load(str(tmp_path / "again.yaml"))
    made = plan.make(
        again, digests={"mnist5k": tracked.DIGEST}, past=store.past_runs(), results_version=RESULTS_VERSION
    )
    assert {stage.run_id for stage in made.stages} == {runs[KNN], runs[PRETRAIN]}


@pytest.mark.parametrize("sets", [[], ["pretrain.params.width=2", "pretrain.params.settings.temperature=0.3"]])
def test_a_run_of_a_shipped_pipeline_is_made_again_by_its_name(store: Store, sets: list[str]) -> None:
    loaded = spec.load("quickstart", ["matrix.method=[moco_v2]", "matrix.seed=[2]", *sets])
    digests = dict.fromkeys(("mnist5k", "digits", "digit_scenes"), tracked.DIGEST)
    made = plan.make(loaded, digests=digests, past=[], results_version=RESULTS_VERSION)
    labels = {arm.name: arm.labels for arm in loaded.arms}
    parent = store.begin_submission(made, title="", spec_yaml=loaded.yaml, arm_labels=labels, resume=None)
    ids = {}
    for stage in made.stages:
        arm = stage.arms[0]
        ids[stage.name] = store.begin_stage(
            stage, parent=parent, pipeline="quickstart", arm_labels=labels[arm], resume=None
        )
    told = Explainer(store).explain(ids["linear"], verified=False)
    program, verb, *arguments = shlex.split(told.recipe.command)
    assert [program, verb, arguments[0], told.recipe.file] == ["leoclr-ops", "submit", "quickstart", ""]
    assert set(arguments[1::2]) == {"--set"}
    again = spec.load("quickstart", arguments[2::2])
    assert [again.arms[0].stages[name].params_json for name in again.arms[0].stages] == [
        loaded.arms[0].stages[name].params_json for name in loaded.arms[0].stages
    ]
    assert len(again.arms) == 1


def test_a_pretraining_that_is_gone_is_told(runs: dict[str, str], store: Store) -> None:
    store._client.delete_run(runs[PRETRAIN])
    [defect] = Explainer(store).explain(runs[KNN]).defects
    assert "what it needs is not there: pretrain" in defect


def test_what_the_runs_of_a_cell_share_is_said_once(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    table = collect(tracked.table(tmp_path), store)
    assert find_cell(table, "leoclr", "KNN") == find_cell(table, "LeOCLR", "kNN") == (0, 0)
    explainer = Explainer(store)
    told = [explainer.explain(run_id) for run_id in table.cells[0][0].run_ids]
    assert {"data", "protocol", "code", "machine"} <= set(shared(told))
    assert "seeds" not in shared(told)
    text = words.in_words(told, "a title")
    assert text.startswith("a title\n\n")
    assert text.count(tracked.DIGEST) == 1
    assert text.count("to make it again") == 2
    found = json.loads(json.dumps(words.to_json(told)))
    assert [each["run_id"] for each in found["runs"]] == list(table.cells[0][0].run_ids)


def test_a_cell_that_is_not_there_is_one_readable_error(runs: dict[str, str], store: Store, tmp_path: Path) -> None:
    table = collect(tracked.table(tmp_path), store)
    with pytest.raises(NotFound, match="no row is called `LeCLR`"):
        find_cell(table, "LeCLR", "kNN")
    with pytest.raises(NotFound, match="no column is called `linear`"):
        find_cell(table, "LeOCLR", "linear")
    with pytest.raises(NotFound, match="not a method of ours"):
        find_cell(table, "other", "kNN")


def test_a_submission_is_no_run_of_a_stage(runs: dict[str, str], store: Store) -> None:
    [submission] = store.submissions()
    with pytest.raises(NotFound, match="it is a submission"):
        Explainer(store).explain(submission.run_id)


def test_what_was_recorded_cannot_move_the_shell(runs: dict[str, str], store: Store) -> None:
    """A store is a stranger's: data folders of its pipeline end up in a command that people copy."""
    evil = "name: x\ntitle: x\narms: []\ndata: {mnist5k: '/x; rm -rf $HOME'}\n"
    with store._speaking():
        store._client.log_text(store.submissions()[0].run_id, evil, "provenance/pipeline.yaml")
    command = Explainer(store).explain(runs[KNN], verified=False).recipe.command
    assert shlex.split(command.partition(" && ")[2])[-2:] == ["--data", "mnist5k=/x; rm -rf $HOME"]
