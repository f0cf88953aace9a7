"""The benchmark of evaluations measures what it says: the peers compute the same thing, and every part runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from benchmarks import evaluation, quality
from benchmarks.main_lincls import Lincls
from benchmarks.pairs import Figure
from leoclr import backbones


def test_the_peer_trains_a_classifier_on_the_same_frozen_network() -> None:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18")
    images_NCHW, labels_N = torch.randn(4, 3, 32, 32), torch.arange(4)
    peer = Lincls(backbone, "resnet18", classes=5, lr=0.1)
    weight_CF, bias_C = (parameter.detach().clone() for parameter in peer._model.fc.parameters())
    with torch.no_grad():
        rows_NF = backbone.eval()(images_NCHW)
    weight_CF.requires_grad_()
    loss = functional.cross_entropy(rows_NF @ weight_CF.T + bias_C, labels_N)
    loss.backward()
    assert peer.step(images_NCHW, labels_N) == pytest.approx(loss.item(), rel=1e-5)
    assert weight_CF.grad is not None
    torch.testing.assert_close(peer._model.fc.weight.detach(), weight_CF.detach() - 0.1 * weight_CF.grad)
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, peer._model.get_parameter(name))


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("13 rates", lambda: evaluation.one_pass(1, name="resnet18", side=32, batch=4, classes=20)),
        ("8 rates", lambda: evaluation.cached(1, images=160, epochs=1)),
        ("kNN", lambda: evaluation.neighbors(1, queries=40, bank=700, dim=16)),
    ],
)
def test_every_part_runs(name: str, figure: object) -> None:
    assert callable(figure)
    made = figure()
    assert isinstance(made, Figure)
    assert name in made.name
    assert math.isfinite(made.ratio) and made.min <= made.ratio <= made.max


def test_a_path_holds_when_it_is_no_further_off_than_seeds_are_from_each_other() -> None:
    slow = [90.0, 91.0, 92.0]
    assert quality.holds([each - 0.9 for each in slow], slow)
    assert not quality.holds([each - 1.1 for each in slow], slow)
    assert not quality.holds([each + 1.1 for each in slow], slow)
