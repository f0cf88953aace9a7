from math import exp, log

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr.siamese import siamese_metric, symmetric_cross_entropy


def features(seed: int) -> tuple[Tensor, Tensor]:
    first_NF, second_NF = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return first_NF, second_NF


def measure() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1).double()


SAME_N = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)


def test_metric_is_the_sum_over_all_pairs_of_views_by_hand() -> None:
    linear, first, partner = measure(), features(1), features(2)
    weight, bias = linear.weight[0].tolist(), linear.bias.item()

    def term(one_F: Tensor, other_F: Tensor, target: float) -> float:
        gap = zip(weight, one_F.tolist(), other_F.tolist(), strict=True)
        chance = 1 / (1 + exp(-sum(w * abs(a - b) for w, a, b in gap) - bias))
        return -log(chance) if target == 1.0 else -log(1 - chance)

    expected = 0.0
    for image in range(5):
        (h_i, h_j), (v_i, v_j) = ((view_NF[image] for view_NF in side) for side in (first, partner))
        same = SAME_N[image].item()
        expected += term(h_i, h_j, 1.0) + term(v_i, v_j, 1.0)
        expected += term(h_i, v_i, same) + term(h_i, v_j, same) + term(h_j, v_i, same) + term(h_j, v_j, same)
    found = siamese_metric(first, partner, SAME_N, measure=linear)
    assert found.item() == pytest.approx(expected / 5, rel=1e-12)


def test_metric_does_not_depend_on_the_order_of_views_or_images() -> None:
    linear, first, partner = measure(), features(1), features(2)
    expected = siamese_metric(first, partner, SAME_N, measure=linear)
    torch.testing.assert_close(siamese_metric(first[::-1], partner, SAME_N, measure=linear), expected)
    torch.testing.assert_close(siamese_metric(partner, first, SAME_N, measure=linear), expected)


def test_metric_draws_one_cluster_together_and_two_apart() -> None:
    same, gap = torch.ones(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for target, sign in ((same, 1.0), (0 * same, -1.0)):
        first_NF = (0.0 * gap).requires_grad_()
        siamese_metric((first_NF, first_NF), (gap, gap), target, measure=lambda each: 1.0 - each).backward()
        assert first_NF.grad is not None
        assert -sign * first_NF.grad.item() > 0  # towards the partner at 1, or away from it


class SCELoss(nn.Module):
    """Written as model/losses.py of stoneMo/SPCL has it, in its order."""

    def forward(self, scores_NK: Tensor, labels_N: Tensor, alpha: float, beta: float) -> Tensor:
        chances_NK = torch.clamp(functional.softmax(scores_NK, dim=1), min=1e-7, max=1.0)
        hot_NK = torch.clamp(functional.one_hot(labels_N, scores_NK.shape[1]).to(scores_NK), min=1e-4, max=1.0)
        reverse_N = -1 * torch.sum(chances_NK * torch.log(hot_NK), dim=1)
        return alpha * functional.cross_entropy(scores_NK, labels_N) + beta * reverse_N.mean()


@pytest.mark.parametrize(("alpha", "beta", "size"), [(0.1, 1.0, 1.0), (1.0, 0.0, 1.0), (0.0, 1.0, 30.0)])
def test_symmetric_cross_entropy_is_the_codes_with_its_gradient(alpha: float, beta: float, size: float) -> None:
    scores_NK = size * torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels_N = torch.tensor([0, 3, 1, 1, 2, 0])
    ours, theirs = scores_NK.clone().requires_grad_(), scores_NK.clone().requires_grad_()
    found = symmetric_cross_entropy(ours, labels_N, alpha=alpha, beta=beta)
    expected = SCELoss()(theirs, labels_N, alpha, beta)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, ours), torch.autograd.grad(expected, theirs), rtol=1e-9, atol=1e-12
    )


def test_reverse_part_by_hand() -> None:
    scores_NK = torch.tensor([[0.0, log(3.0)]], dtype=torch.float64)  # probabilities 1/4 and 3/4
    found = symmetric_cross_entropy(scores_NK, torch.tensor([0]), alpha=2.0, beta=5.0)
    assert found.item() == pytest.approx(2 * log(4) + 5 * 0.75 * 4 * log(10))
