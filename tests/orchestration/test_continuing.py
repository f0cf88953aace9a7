"""A pre-training that goes on from another: what may change on the way, and that one cut in two is the one whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration import spec
from orchestration.errors import SpecError

FILE = """
name: two
stages:
  first: {kind: pretrain, params: {dataset: mnist5k, method: moco_v2, epochs: 8, until: 4, lr: 0.03}}
  pretrain: {needs: [first], params: {dataset: mnist5k, method: moco_v2, epochs: 8, lr: 0.01}}
  linear: {needs: [pretrain], params: {dataset: mnist5k, protocol: moco}}
"""


def load(tmp_path: Path, old: str = "", new: str = "") -> spec.PipelineSpec:
    assert old in FILE
    (tmp_path / "p.yaml").write_text(FILE.replace(old, new))
    return spec.load(str(tmp_path / "p.yaml"))


def test_the_first_has_its_end_among_its_params_and_the_second_has_none(tmp_path: Path) -> None:
    stages = load(tmp_path).arms[0].stages
    assert stages["first"].params_json["until"] == 4
    assert "until" not in stages["pretrain"].params_json, "a whole pre-training's fingerprint stays what it was"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" until: 4,", "", "stages.pretrain.needs: `first` runs to its end: there is nothing to go on with"),
        ("until: 4", "until: 8", "stages.first.params.until: a schedule of 8 epochs does not go on after epoch 8"),
        ("until: 4", "until: 0", "stages.first.params.until: expected at least 1, got `0`"),
        ("epochs: 8, lr: 0.01", "epochs: 8, until: 3", "stages.pretrain.params.until: `first` ends after epoch 4"),
        ("epochs: 8, lr: 0.01", "epochs: 9", "stages.pretrain.params: epochs 8 -> 9"),
        ("moco_v2, epochs: 8, lr: 0.01", "leoclr, epochs: 8", "stages.pretrain.params: method moco_v2 -> leoclr"),
        ("lr: 0.01", "seed: 1", "stages.pretrain.params: seed 0 -> 1"),
        ("lr: 0.01", "batch: 128", "stages.pretrain.params: batch 256 -> 128"),
    ],
)
def test_what_cannot_go_on_is_told_at_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, old, new)
    assert said in str(caught.value)


def test_rates_and_what_the_method_sets_may_change(tmp_path: Path) -> None:
    load(tmp_path, "lr: 0.01", "lr: 0.02, weight_decay: 0.001, sgd_momentum: 0.8, settings: {temperature: 0.1}")
