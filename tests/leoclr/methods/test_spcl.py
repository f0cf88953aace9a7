import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr import optim
from leoclr.augment.views import View
from leoclr.clusters import cluster
from leoclr.lars import LARS
from leoclr.methods.contract import At, Batch, Facts, Indices
from leoclr.methods.spcl import Config, Method, views
from leoclr.siamese import symmetric_cross_entropy
from tests.tiny_backbone import Tiny

IMAGES, PAIRS, STEPS = 30, 5, 10
CONFIG = Config(dim=5, prototypes=3, whitened_dim=4)
ONLY = {"contrastive_weight": 0.0, "metric_weight": 0.0, "prototype_weight": 0.0}
RATE, HELD_RATE = 0.1, 0.05


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, Facts(images=IMAGES, classes=2)).double()


def at(step: int, epoch: int = 0) -> At:
    return At(step, total=2 * STEPS, epoch=epoch, epochs=2)


def batch(images_N: Indices, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randn(2, len(images_N), 3, 16, 16, generator=generator, dtype=torch.float64)
    return Batch((shown[0], shown[1]), torch.from_numpy(images_N))


def some_pairs(method: Method, *, seed: int = 0, epoch: int = 0) -> Batch:
    drawn_N = np.random.Generator(np.random.PCG64(seed)).permutation(IMAGES)[:PAIRS]
    return batch(method.choose(drawn_N, at(0, epoch)), seed=seed)


@dataclass(frozen=True)
class Noise:
    """A survey whose features are those of one noise picture for each image, seen by the method's own backbone."""

    method: Method
    epoch: int = 0
    seed: int = 7

    @property
    def views(self) -> tuple[View, ...]:
        return views(self.method.config, 16)

    def features(self, view: View) -> Tensor:
        assert view == self.views[0]
        generator = torch.Generator().manual_seed(self.epoch)
        images_MCHW = torch.randn(IMAGES, 3, view.size, view.size, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            return copy.deepcopy(self.method.backbone).eval()(images_MCHW)


def nt_xent_by_hand(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], temperature: float) -> float:
    """Write eq. (1) for each of the 2N embeddings, and take their mean."""
    rows = [[value / sum(each**2 for each in row) ** 0.5 for value in row] for row in (*first, *second)]
    total = 0.0
    for query in range(len(rows)):
        scores = [exp(sum(a * b for a, b in zip(rows[query], row, strict=True)) / temperature) for row in rows]
        positive = scores[(query + len(first)) % len(rows)]
        total -= log(positive / (sum(scores) - scores[query]))
    return total / len(rows)


def losses_by_hand(method: Method, shown: Batch) -> tuple[float, float, float]:
    """Return the three losses in plain Python floats, from the features and heads of `method`."""
    assert shown.images_N is not None
    h_i, h_j, v_i, v_j = (method.backbone(half) for place in (0, 1) for half in quarter(shown, place))
    z = [method.head(each_NF).tolist() for each_NF in (h_i, h_j, v_i, v_j)]
    contrast = sum(nt_xent_by_hand(one, other, method.config.temperature) for one, other in (z[:2], z[2:]))
    known = method.clusters_M.tolist()
    images = shown.images_N.tolist()
    metric = cross = 0.0
    weight, bias = method.metric.weight[0].tolist(), method.metric.bias.item()
    for pair in range(PAIRS):
        own, other = known[images[pair]], known[images[PAIRS + pair]]
        same = own == other
        for one, two, alike in (
            (h_i, h_j, True),
            (v_i, v_j, True),
            (h_i, v_i, same),
            (h_i, v_j, same),
            (h_j, v_i, same),
            (h_j, v_j, same),
        ):
            gap = zip(weight, one[pair].tolist(), two[pair].tolist(), strict=True)
            chance = 1 / (1 + exp(-sum(w * abs(a - b) for w, a, b in gap) - bias))
            metric -= log(chance if alike else 1 - chance)
        for each_NF, place in ((h_i, own), (h_j, own), (v_i, other), (v_j, other)):
            scores = [exp(score) for score in method.prototypes(each_NF[pair]).tolist()]
            cross -= log(scores[place] / sum(scores))
    return contrast, metric / PAIRS, cross / PAIRS


def quarter(shown: Batch, place: int) -> tuple[Tensor, Tensor]:
    """Return both views of one side of the pairs."""
    one, other = (view_NCHW.chunk(2)[place] for view_NCHW in shown.views)
    return one, other


def test_loss_is_the_papers_in_naive_loops() -> None:
    weights = {"contrastive_weight": 0.5, "metric_weight": 2.0, "prototype_weight": 3.0}
    method = new_method(replace(CONFIG, **weights))
    nn.init.normal_(method.prototypes.weight)  # as N(0, .01) draws it all scores are alike
    nn.init.normal_(method.metric.weight)
    shown = some_pairs(method)
    contrast, metric, cross = losses_by_hand(method, shown)
    done = method(shown)
    assert done.loss.item() == pytest.approx(0.5 * contrast + 2.0 * metric + 3.0 * cross, rel=1e-10)
    watched = {name: value.item() for name, value in done.watch}
    assert {name: watched[name] for name in ("contrastive", "metric", "prototypical")} == pytest.approx(
        {"contrastive": contrast, "metric": metric, "prototypical": cross}, rel=1e-10
    )


@pytest.mark.parametrize(
    ("field", "part", "silent"),
    [
        ("contrastive_weight", "contrastive", ["metric", "prototypes"]),
        ("metric_weight", "metric", ["head", "prototypes"]),
        ("prototype_weight", "prototypical", ["head", "metric"]),
    ],
)
def test_each_loss_stands_alone(field: str, part: str, silent: list[str]) -> None:
    method = new_method(replace(CONFIG, **{**ONLY, field: 1.0}))
    done = method(some_pairs(method))
    assert done.loss.item() == pytest.approx(dict(done.watch)[part].item(), rel=1e-12)
    done.loss.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        # A bias in front of a batch norm has no gradient but rounding.
        if name.split(".")[0] in silent:
            assert not parameter.grad.any(), name
        elif parameter.ndim > 1:
            assert parameter.grad.abs().max() > 1e-9, name


def test_symmetric_cross_entropy_replaces_the_plain_one() -> None:
    weights = {**ONLY, "prototype_weight": 1.0}
    method = new_method(replace(CONFIG, **weights, symmetric=True, symmetric_alpha=0.3, symmetric_beta=0.7))
    shown = some_pairs(method)
    assert shown.images_N is not None
    first_N, partner_N = method.clusters_M[shown.images_N].chunk(2)
    expected = sum(
        symmetric_cross_entropy(method.prototypes(method.backbone(half)), clusters_N, alpha=0.3, beta=0.7)
        for place, clusters_N in ((0, first_N), (1, partner_N))
        for half in quarter(shown, place)
    )
    torch.testing.assert_close(method(shown).loss, expected)


class Plain(nn.Module):
    """What stoneMo/SPCL trains in an epoch, in the order of its train.py."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        parts = (method.backbone, method.head, method.metric, method.prototypes)
        self.encoder, self.mlp, self.learner, self.classifier = copy.deepcopy(parts)

    def forward(self, shown: Batch, clusters_M: Tensor) -> Tensor:
        assert shown.images_N is not None
        label_h, label_v = clusters_M[shown.images_N].chunk(2)
        h_i, h_j, v_i, v_j = (self.encoder(half) for place in (0, 1) for half in quarter(shown, place))
        same = (label_h == label_v).double()[:, None]
        loss = self.criterion(self.mlp(h_i), self.mlp(h_j)) + self.criterion(self.mlp(v_i), self.mlp(v_j))
        bce = functional.binary_cross_entropy_with_logits
        for one, two, target in ((h_i, h_j, same * 0 + 1), (v_i, v_j, same * 0 + 1)):
            loss = loss + bce(self.learner(torch.abs(one - two)), target)
        for one, two in ((h_i, v_i), (h_i, v_j), (h_j, v_i), (h_j, v_j)):
            loss = loss + bce(self.learner(torch.abs(one - two)), same)
        for each, label in ((h_i, label_h), (h_j, label_h), (v_i, label_v), (v_j, label_v)):
            loss = loss + functional.cross_entropy(self.classifier(each), label)
        return loss

    def criterion(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Write model/losses.py, SPCLCriterion: positives in front, the diagonals masked out."""
        z_i, z_j = functional.normalize(z_i, dim=-1), functional.normalize(z_j, dim=-1)
        mask = ~torch.eye(len(z_i), dtype=torch.bool)
        aa, bb, ab, ba = (
            one @ two.T / CONFIG.temperature for one, two in ((z_i, z_i), (z_j, z_j), (z_i, z_j), (z_j, z_i))
        )
        positive = torch.cat([ab.diagonal(), ba.diagonal()])[:, None]
        negative_a = torch.cat([aa[mask].reshape(len(z_i), -1), ab[mask].reshape(len(z_i), -1)], dim=1)
        negative_b = torch.cat([ba[mask].reshape(len(z_i), -1), bb[mask].reshape(len(z_i), -1)], dim=1)
        logits = torch.cat([positive, torch.cat([negative_a, negative_b])], dim=1)
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_two_epochs_equal_a_plain_transcription_weight_for_weight() -> None:
    method, seed = new_method(), 7
    plain = Plain(method)
    ours = LARS(list(method.groups()), lr=RATE, momentum=0.9, weight_decay=0.01, nesterov=True)
    trained = [each for part in (plain.encoder, plain.mlp, plain.learner) for each in part.parameters()]
    theirs = LARS(trained, lr=RATE, momentum=0.9, weight_decay=0.01, nesterov=True)
    for epoch in range(2):
        survey = Noise(method, epoch, seed)
        method.start_epoch(survey)
        plain.classifier = nn.Linear(6, CONFIG.prototypes).double()
        plain.classifier.load_state_dict(method.prototypes.state_dict())
        classifier_sgd = torch.optim.SGD(plain.classifier.parameters(), lr=HELD_RATE * CONFIG.prototype_lr_scale)
        clusters_M = method.clusters_M.clone()
        for step in range(STEPS):
            shown = some_pairs(method, seed=step, epoch=epoch)
            optim.set_lr(ours, RATE, fixed=HELD_RATE)
            loss, expected = method(shown).loss, plain(shown, clusters_M)
            torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
            for optimizer in (ours, theirs, classifier_sgd):
                optimizer.zero_grad()
            loss.backward()
            expected.backward()
            for optimizer in (ours, theirs, classifier_sgd):
                optimizer.step()
    for own, other in (
        (method.backbone, plain.encoder),
        (method.head, plain.mlp),
        (method.prototypes, plain.classifier),
    ):
        torch.testing.assert_close(own.state_dict(), other.state_dict(), rtol=1e-8, atol=1e-11)


def test_an_epoch_starts_with_clusters_of_the_survey_and_new_prototypes() -> None:
    method = new_method()
    before = copy.deepcopy(method.state_dict())
    survey = Noise(method)
    method.start_epoch(survey)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7, 0, 1))))
    rng.normal(0.0, 0.01, (3, 6))  # the prototypes come first
    expected_M = cluster(survey.features(survey.views[0]), count=3, dim=4, iterations=20, rng=rng)
    assert method.clusters_M.tolist() == expected_M.tolist()
    assert 0.005 < method.prototypes.weight.std().item() < 0.015
    assert not method.prototypes.bias.any()
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in ("clusters_M", "prototypes.weight", "seed")), name


def test_epochs_differ_and_an_epoch_starts_again_as_it_did() -> None:
    states = []
    for survey in (Noise(method := new_method(), 0), Noise(method, 0), Noise(method, 1), Noise(method, 0, seed=8)):
        method.start_epoch(survey)
        states.append(copy.deepcopy(method.state_dict()))
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    for other in states[2:]:
        assert not torch.equal(states[0]["prototypes.weight"], other["prototypes.weight"])
        assert not torch.equal(states[0]["clusters_M"], other["clusters_M"])


def test_pairs_are_of_one_cluster_for_odd_images_and_of_two_for_even_ones() -> None:
    method = new_method()
    method.start_epoch(Noise(method))
    drawn_N = np.arange(IMAGES)
    first_N, partner_N = np.split(method.choose(drawn_N, at(0)), 2)
    known = method.clusters_M.numpy()
    assert ((known[first_N] == known[partner_N]) == (drawn_N % 2 == 1)).all()
    assert (first_N != partner_N).all()
    some_N = np.array([11, 3])  # of another batch, at another step
    again = np.split(method.choose(some_N, at(4)), 2)
    assert (again[0].tolist(), again[1].tolist()) == (first_N[some_N].tolist(), partner_N[some_N].tolist())
    assert method.choose(drawn_N, at(0, epoch=1)).tolist() != [*first_N.tolist(), *partner_N.tolist()]


def test_a_loaded_method_draws_the_pairs_of_the_saved_one() -> None:
    method, loaded, drawn_N = new_method(), new_method(), np.arange(IMAGES)
    for epoch in range(2):
        loaded.choose(drawn_N, at(0, epoch))  # from clusters that are about to be replaced
        method.start_epoch(Noise(method, epoch, seed=2**64 - 1))
        loaded.load_state_dict(method.state_dict())
        assert loaded.choose(drawn_N, at(0, epoch)).tolist() == method.choose(drawn_N, at(0, epoch)).tolist()


def test_head_is_the_codes() -> None:
    head = new_method().head
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [(6, 6), (5, 6)]
    assert 0.006 < torch.cat([layer.weight.flatten() for layer in linear]).std().item() < 0.014
    assert not any(layer.bias.any() for layer in linear)
    assert head[-1].weight.requires_grad
    assert head[-1].bias.requires_grad


def test_views_are_two_crops_with_the_jitter_of_strength_one() -> None:
    assert views(Config(), 224) == (View(size=224, crop_scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2)),) * 2


def test_more_prototypes_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^prototypes: must be at most the number of images \(30\)"):
        new_method(replace(CONFIG, prototypes=31))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("dim", 0),
        ("prototypes", 1),
        ("whitened_dim", 0),
        ("cluster_iterations", 0),
        ("contrastive_weight", -1.0),
        ("metric_weight", -1.0),
        ("prototype_weight", -1.0),
        ("symmetric_alpha", -1.0),
        ("symmetric_beta", -1.0),
        ("prototype_lr_scale", 0.0),
        ("crop_scale", (0.0, 1.0)),
    ],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
