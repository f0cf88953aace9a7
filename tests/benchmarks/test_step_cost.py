"""What a step costs in theory is what torch counts, and what is timed is a step of the method."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.step_cost import PASSES, STEPS, Subject, theory
from leoclr import methods
from orchestration import spec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    """The params of each arm of the shipped pipeline."""
    return {arm.labels["method"]: arm.stages["pretrain"].params for arm in spec.load("methods").arms}


def test_every_method_that_trains_has_its_passes() -> None:
    assert set(PASSES) == {name for name in methods.METHODS if methods.module(name).TRAINS}


@pytest.mark.parametrize(
    ("method", "units"),
    [
        ("moco_v2", 4),
        ("leoclr", 5),
        ("simclr", 6),
        ("byol", 8),
        ("leoclr_end_to_end", 9),
        ("supervised", 3),
        ("spcl", 12),
        ("swav", 3 * (2 + 2 * (12 / 28) ** 2)),
        ("dino", 3 * (2 + 2 * (12 / 28) ** 2) + 2),
        ("clsa", 1 + 3 * (1 + (12 / 28) ** 2)),
        ("clsa_multi", 1 + 3 * (1 + (28**2 + 24**2 + 20**2 + 16**2 + 12**2) / 28**2)),  # one weak query, five strong
    ],
)
def test_theory_counts_forward_passes_once_and_backward_passes_twice(
    params: dict[str, Any], method: str, units: float
) -> None:
    assert theory(params[method]) == pytest.approx(units)


def small(params: Any) -> Any:
    """The same arm on images that load at once, and a narrower network."""
    return replace(params, dataset="digits", width=8, batch=16)


@pytest.fixture(scope="module")
def moco(params: dict[str, Any]) -> Subject:
    return Subject(small(params["moco_v2"]), CPU)


@pytest.mark.parametrize("method", ["leoclr", "leoclr_end_to_end", "simclr", "byol", "spcl", "supervised"])
def test_theory_is_what_torch_counts(params: dict[str, Any], moco: Subject, method: str) -> None:
    counted = Subject(small(params[method]), CPU).operations() / moco.operations()
    # Heads are not in the theory, nor that a stem needs no gradient for its images
    assert counted == pytest.approx(theory(params[method]) / theory(params["moco_v2"]), rel=0.12)


def test_both_timings_train_the_method(params: dict[str, Any]) -> None:
    subject = Subject(small(params["leoclr"]), CPU)
    seen = []
    for timed in (subject.steps, subject.loaded_steps):
        before = copy.deepcopy(subject.method.state_dict())
        assert timed() > 0
        moved = subject.method.state_dict()
        assert not torch.equal(before["head.0.weight"], moved["head.0.weight"])
        seen.append(int(moved["backbone.bn1.num_batches_tracked"] - before["backbone.bn1.num_batches_tracked"]))
    assert seen == [STEPS, STEPS]
