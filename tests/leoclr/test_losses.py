import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from pytorch_metric_learning.losses import NTXentLoss as MetricNTXentLoss
from torch import Tensor
from torch.nn import functional

from leoclr.losses import ddm, in_batch, info_nce, info_nce_shared, nt_xent, spread


def rows(count: int, dim: int, *, seed: int) -> Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=1)


def naive(query_ND: Tensor, positive_ND: Tensor, negatives_KD: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=query_ND.dtype)
    for query_D, positive_D in zip(query_ND, positive_ND, strict=True):
        positive = (query_D @ positive_D / temperature).exp()
        rest = sum((query_D @ negative_D / temperature).exp() for negative_D in negatives_KD)
        total = total - (positive / (positive + rest)).log()
    return total / len(query_ND)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), k=st.integers(1, 7), d=st.integers(2, 9), temperature=st.floats(0.05, 2.0))
def test_equals_the_naive_loop_with_its_gradients(n: int, k: int, d: int, temperature: float) -> None:
    ours = [rows(count, d, seed=seed).requires_grad_() for seed, count in enumerate((n, n, k))]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    loss, expected = info_nce(*ours, temperature=temperature), naive(*theirs, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-12)


def test_shared_terms_and_gradients_equal_separate_ones() -> None:
    query_ND, negatives_KD = rows(4, 8, seed=0).requires_grad_(), rows(16, 8, seed=1)
    positives = [rows(4, 8, seed=seed) for seed in (2, 3, 4)]
    shared = info_nce_shared(query_ND, positives, negatives_KD, temperature=0.2)
    apart = [info_nce(query_ND, positive_ND, negatives_KD, temperature=0.2) for positive_ND in positives]
    torch.testing.assert_close(list(shared), apart, rtol=0, atol=0)
    (gradient_ND,) = torch.autograd.grad(sum(shared), query_ND)
    (expected_ND,) = torch.autograd.grad(sum(apart), query_ND)
    torch.testing.assert_close(gradient_ND, expected_ND, rtol=1e-13, atol=1e-14)


def test_equals_cross_entropy_over_concatenated_scores() -> None:
    query_ND, positive_ND, negatives_KD = rows(6, 8, seed=0), rows(6, 8, seed=1), rows(32, 8, seed=2)
    scores = torch.cat([(query_ND * positive_ND).sum(1, keepdim=True), query_ND @ negatives_KD.T], dim=1) / 0.07
    expected = functional.cross_entropy(scores, torch.zeros(6, dtype=torch.int64))
    torch.testing.assert_close(info_nce(query_ND, positive_ND, negatives_KD, temperature=0.07), expected)


def test_one_direction_for_all_gives_log_of_the_candidates() -> None:
    one_ND = rows(1, 4, seed=0)
    loss = info_nce(one_ND, one_ND, one_ND.expand(9, 4), temperature=0.2)
    assert loss.item() == pytest.approx(math.log(10), rel=1e-12)


def test_order_of_negatives_and_rotation_do_not_matter() -> None:
    query_ND, positive_ND, negatives_KD = rows(4, 6, seed=0), rows(4, 6, seed=1), rows(10, 6, seed=2)
    turn_DD = torch.linalg.qr(rows(6, 6, seed=3)).Q
    loss = info_nce(query_ND, positive_ND, negatives_KD, temperature=0.2)
    reordered = info_nce(query_ND.flip(0), positive_ND.flip(0), negatives_KD.flip(0), temperature=0.2)
    turned = info_nce(query_ND @ turn_DD, positive_ND @ turn_DD, negatives_KD @ turn_DD, temperature=0.2)
    torch.testing.assert_close(torch.stack([reordered, turned]), loss.expand(2), rtol=1e-12, atol=0)


def test_a_tiny_loss_keeps_its_digits_in_float32() -> None:
    east, west = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    loss = info_nce(east, east, west, temperature=0.1)
    assert loss.item() == pytest.approx(math.exp(-20), rel=1e-5)  # log(1 + e^-20); a cancelling formula gives 0


def test_gradient_flows_into_every_argument() -> None:
    arguments = [rows(count, 3, seed=count).requires_grad_() for count in (2, 2, 4)]
    assert torch.autograd.gradcheck(lambda q, p, n: info_nce(q, p, n, temperature=0.5), arguments)


def pair(count: int) -> list[Tensor]:
    return [rows(count, 6, seed=seed).requires_grad_() for seed in (0, 1)]


def naive_nt_xent(first_ND: Tensor, second_ND: Tensor, temperature: float) -> Tensor:
    """Eq. (1) and the mean of algorithm 1 of SimCLR, with a loop over all pairs (i, k)."""
    every, count = [*first_ND, *second_ND], len(first_ND)
    total = torch.zeros((), dtype=first_ND.dtype)
    for i, anchor_D in enumerate(every):
        scores = [(anchor_D @ other_D / temperature).exp() for other_D in every]
        rest = sum(score for k, score in enumerate(scores) if k != i)
        total = total - (scores[(i + count) % (2 * count)] / rest).log()
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_the_naive_loop_with_its_gradients(temperature: float) -> None:
    ours, theirs = pair(5), pair(5)
    loss, expected = nt_xent(ours, ours, temperature=temperature), naive_nt_xent(*theirs, temperature)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close([view.grad for view in ours], [view.grad for view in theirs], rtol=1e-10, atol=1e-13)


def test_nt_xent_equals_lightlys_and_that_of_metric_learning() -> None:
    views = pair(7)
    loss = nt_xent(views, views, temperature=0.2)
    torch.testing.assert_close(loss, NTXentLoss(temperature=0.2)(*views), rtol=1e-10, atol=0)
    images = torch.arange(7).repeat(2)
    torch.testing.assert_close(loss, MetricNTXentLoss(temperature=0.2)(torch.cat(views), images), rtol=1e-10, atol=0)


def test_shares_of_nt_xent_average_to_that_of_the_whole_batch() -> None:
    views = pair(6)
    shares = [nt_xent([v[at : at + 2] for v in views], views, first=at, temperature=0.3) for at in (0, 2, 4)]
    torch.testing.assert_close(torch.stack(shares).mean(), nt_xent(views, views, temperature=0.3))


def test_in_batch_searches_among_all_but_the_excluded() -> None:
    query_ND, candidates_BD = rows(3, 6, seed=0), rows(5, 6, seed=1)
    positive, excluded = [4, 0, 2], [1, 3, 0]
    expected = torch.zeros((), dtype=torch.float64)
    for query_D, own, out in zip(query_ND, positive, excluded, strict=True):
        scores = [(query_D @ other_D / 0.2).exp() for other_D in candidates_BD]
        expected = expected - (scores[own] / sum(score for at, score in enumerate(scores) if at != out)).log() / 3
    found = in_batch(
        query_ND,
        candidates_BD,
        positive_N=torch.tensor(positive),
        excluded_N=torch.tensor(excluded),
        temperature=0.2,
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_ddm_equals_the_naive_loop_and_stops_at_the_weak_scores() -> None:
    strong_NK, *weak = (3 * rows(4, 9, seed=seed) for seed in range(3))
    strong_NK.requires_grad_()
    weak = [weak_NK.requires_grad_() for weak_NK in weak]
    expected = torch.zeros((), dtype=torch.float64)
    for weak_NK in weak:
        for image in range(4):
            low = sum(score.exp() for score in strong_NK[image])
            high = sum(score.exp() for score in weak_NK[image])
            for key in range(9):
                chance = weak_NK[image, key].exp() / high
                expected = expected - chance * (strong_NK[image, key].exp() / low).log() / 4
    loss = ddm(strong_NK, weak)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    loss.backward()
    assert strong_NK.grad is not None
    assert all(weak_NK.grad is None for weak_NK in weak)


def test_ddm_is_least_where_the_distributions_are_equal() -> None:
    scores_NK = 3 * rows(4, 9, seed=0).requires_grad_()
    (gradient_NK,) = torch.autograd.grad(ddm(scores_NK, [scores_NK]), scores_NK)
    torch.testing.assert_close(gradient_NK, torch.zeros_like(gradient_NK), rtol=0, atol=1e-15)
    entropy = torch.distributions.Categorical(logits=scores_NK).entropy().mean()
    torch.testing.assert_close(ddm(scores_NK, [scores_NK]), entropy)


def test_spread_is_zero_when_collapsed_and_near_one_when_uniform() -> None:
    assert spread(rows(1, 64, seed=0).expand(8, 64)).item() == pytest.approx(0.0, abs=1e-12)
    assert spread(rows(4096, 64, seed=0)).item() == pytest.approx(1.0, abs=0.01)
