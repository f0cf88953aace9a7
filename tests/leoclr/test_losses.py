import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from leoclr.losses import info_nce, info_nce_shared, spread


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


def test_spread_is_zero_when_collapsed_and_near_one_when_uniform() -> None:
    assert spread(rows(1, 64, seed=0).expand(8, 64)).item() == pytest.approx(0.0, abs=1e-12)
    assert spread(rows(4096, 64, seed=0)).item() == pytest.approx(1.0, abs=0.01)
