"""A checkpoint that a resume could not live with is never sealed, and a divergence says what was kept before it."""

from pathlib import Path

import pytest
import torch

from jobs.contract import Job
from jobs.health import DIVERGED, require_finite, told
from jobs.journal import Diverged
from leoclr import checkpoint
from leoclr.checkpoint import Position

FINE = {
    "method": {"backbone.weight": torch.ones(3), "queue": torch.zeros(2), "count": torch.tensor(3)},
    "optimizer": None,
}


def job(folder: Path) -> Job:
    facts = {
        "kind": "pretrain",
        "stage": "pretrain",
        "folder": str(folder),
        "fingerprint": "ab",
        "params": {},
        "inputs": {},
    }
    return Job.model_construct(**facts, trial=None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["method", "model", "detector"])
def test_a_network_with_a_number_that_is_none_diverged(key: str, value: float) -> None:
    weights = {"a": torch.ones(2), "b": torch.tensor([1.0, value]), "slow": {"c": torch.tensor(value)}}
    with pytest.raises(Diverged, match=r"2 of 3 weights are no finite numbers, b first: lower the learning rate"):
        require_finite({key: weights})
    with pytest.raises(Diverged, match="b first"):  # inside a chain, as those of a semi-supervised evaluation
        require_finite({"results": {}, "link": "labels_1", "work": {key: weights}})


def test_what_is_finite_is_kept_and_one_rate_of_a_probe_may_diverge() -> None:
    require_finite(FINE)
    require_finite({"heads": {"weight": torch.tensor(float("nan"))}, "lrs": [0.1, 1000.0]})
    require_finite({})
    require_finite({"results": {"labels_1/top1": 1.0}, "link": "labels_1", "work": None})


def test_a_divergence_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"^the loss is nan; no checkpoint was made before$"), told(job(tmp_path)):
        raise Diverged("the loss is nan")
    for total in (4, 8):
        checkpoint.save(tmp_path / "checkpoints", {"work": {}}, Position(0, total, total), fingerprint="ab")
    (tmp_path / "checkpoints" / "00000008" / "state.pt").write_bytes(b"torn")
    with pytest.raises(Diverged, match=r"good checkpoint is checkpoints/00000004, after step 4$"), told(job(tmp_path)):
        raise Diverged("the loss is nan")


def test_of_a_trial_its_grid_is_told(tmp_path: Path) -> None:
    made = job(tmp_path).model_copy(update={"trial": object()})
    with pytest.raises(Diverged, match=r"^the loss is nan$"), told(made):
        raise Diverged("the loss is nan")
    assert (tmp_path / DIVERGED).read_text() == '{"reason": "the loss is nan"}'
