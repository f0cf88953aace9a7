"""Params, names and descriptions of runs are the same ones for one thing, whatever run it is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from leoclr import RESULTS_VERSION
from orchestration import naming, plan, records, spec
from orchestration.errors import StoreError
from orchestration.naming import Context
from orchestration.plan import Plan, PlannedStage
from tests.orchestration import tracked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("naming")
    tracked.table(folder)
    return tracked.planned(folder)


def _stage(made: Plan, kind: str, arm: str = "leoclr seed=1") -> PlannedStage:
    return next(stage for stage in made.stages if stage.kind == kind and arm in stage.arms)


def test_a_setting_of_the_pre_training_has_one_name_on_its_run_and_on_those_after_it(made: Plan) -> None:
    origin, probe = _stage(made, "pretrain"), _stage(made, "knn")
    first, second = naming.stage_params(origin, None), naming.stage_params(probe, origin)
    shared = {key: value for key, value in first.items() if key.startswith("pretrain.")}
    assert shared == {key: value for key, value in second.items() if key.startswith("pretrain.")}
    assert (shared["pretrain.settings.temperature"], shared["pretrain.epochs"]) == ("0.2", "2")
    assert first.keys() - shared.keys() == {"dataset", "seed"}
    assert (second["protocol"], second["seed"], second["dataset"]) == ("small", "1", "mnist5k")


def test_a_submission_has_what_its_arms_agree_in_and_the_axes_of_its_trial(made: Plan) -> None:
    shared = naming.shared_params(made, {"view": "crop only"})
    assert (shared["pretrain.width"], shared["knn.protocol"], shared["axis.view"]) == ("2", "small", "crop only")
    assert "pretrain.method" not in shared
    assert "knn.seed" not in shared


def test_a_trials_stage_is_told_from_those_of_other_trials(made: Plan) -> None:
    assert naming.run_name(_stage(made, "knn"), {}) == "knn leoclr seed=1"
    assert naming.run_name(_stage(made, "knn"), {"temperature": "0.1"}) == "knn temperature=0.1 leoclr seed=1"
    assert len(naming.run_name(_stage(made, "knn"), {"view": "x" * 300})) == records.MAX_NAME


def test_a_description_says_what_a_run_is_and_how_to_get_it_again(made: Plan) -> None:
    origin, probe = _stage(made, "pretrain"), _stage(made, "knn")
    note = naming.stage_note(origin, "abcdef1234", Context())
    assert "Pre-training by **leoclr** on mnist5k: epochs 2, batch 64, backbone resnet18, seed 1." in note
    assert "`leoclr-ops explain abcdef12`" in note
    note = naming.stage_note(probe, "abcdef1234", Context(origin, "0123456789"))
    assert note.startswith(
        "Evaluation `knn` by protocol `small` on mnist5k of the checkpoint of **leoclr**, run `01234567`."
    )


def test_a_long_description_ends_with_a_whole_line_and_says_where_the_rest_is() -> None:
    text = "\n".join(f"| row {i} | {'x' * 60} |" for i in range(200))
    fitted = naming.fitting(text, "see there")
    assert len(fitted) <= records.MAX_TAG
    *lines, blank, last = fitted.split("\n")
    assert (blank, last) == ("", "see there")
    assert lines == text.split("\n")[: len(lines)]
    assert len(fitted) > records.MAX_TAG - 100


def test_a_param_that_mlflow_would_cut_is_refused() -> None:
    with pytest.raises(StoreError, match=r"params\.settings\.list: 6002 characters are more than the 6000"):
        naming.flatten({"settings": {"list": ["x" * 5998]}})


def test_an_imported_pre_training_has_params_too(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "stages: {pretrain: {params: {method: imported, settings: {as_method: swav, sha256: '" + "a" * 64 + "'}}}}"
    )
    made = plan.make(spec.load(str(tmp_path / "p.yaml")), digests={"": ""}, past=[], results_version=RESULTS_VERSION)
    params = naming.stage_params(made.stages[0], None)
    assert params["pretrain.settings.as_method"] == "swav"
    assert "imported" in naming.stage_note(made.stages[0], "a" * 8, Context())
