import math
from collections.abc import Sequence

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from torch import Tensor

from leoclr.redundancy import barlow_twins, vicreg

EPSILON = 1e-4


def rows(seed: int, *, images: int = 9, dim: int = 5) -> Tensor:
    """Return rows that do not have mean 0, variance 1 or independent columns."""
    generator = torch.Generator().manual_seed(seed)
    noise_BD = torch.randn(images, dim, generator=generator, dtype=torch.float64)
    return 0.4 * noise_BD @ torch.randn(dim, dim, generator=generator, dtype=torch.float64) + 0.3


def columns(view_BD: Tensor) -> list[list[float]]:
    listed: list[list[float]] = view_BD.T.tolist()
    return listed


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def barlow_twins_by_loops(first_BD: Tensor, second_BD: Tensor) -> tuple[float, float]:
    """Eq. (2): the correlation of each value of the first view with each of the second, both with mean 0."""
    invariance = redundancy = 0.0
    for i, first in enumerate(columns(first_BD)):
        for j, second in enumerate(columns(second_BD)):
            first_0, second_0 = [a - mean(first) for a in first], [b - mean(second) for b in second]
            shared = sum(a * b for a, b in zip(first_0, second_0, strict=True))
            # 1e-5: main.py's batch norm; the paper has none
            lengths = [math.sqrt(sum(a * a for a in each) + 1e-5 * len(each)) for each in (first_0, second_0)]
            correlation = shared / (lengths[0] * lengths[1])
            if i == j:
                invariance += (1 - correlation) ** 2
            else:
                redundancy += correlation**2
    return invariance, redundancy


def covariance(first: Sequence[float], second: Sequence[float]) -> float:
    pairs = zip(first, second, strict=True)
    return sum((a - mean(first)) * (b - mean(second)) for a, b in pairs) / (len(first) - 1)


def vicreg_by_loops(first_BD: Tensor, second_BD: Tensor) -> tuple[float, float, float]:
    """Eq. (1) to (5), where the distance is divided by D too."""
    variance = shared = 0.0
    for view_BD in (first_BD, second_BD):
        listed = columns(view_BD)
        for i, first in enumerate(listed):
            variance += max(0.0, 1.0 - math.sqrt(covariance(first, first) + EPSILON)) / len(listed)
            for j, second in enumerate(listed):
                shared += covariance(first, second) ** 2 / len(listed) if i != j else 0.0
    pairs = zip(first_BD.flatten().tolist(), second_BD.flatten().tolist(), strict=True)
    return mean([(a - b) ** 2 for a, b in pairs]), variance, shared


def test_barlow_twins_equals_naive_loops() -> None:
    ours = [term.item() for term in barlow_twins(rows(0), rows(1))]
    assert ours == pytest.approx(barlow_twins_by_loops(rows(0), rows(1)), rel=1e-10)


def test_barlow_twins_equals_lightlys() -> None:
    invariance, redundancy = barlow_twins(rows(0), rows(1))
    torch.testing.assert_close(invariance + 0.0051 * redundancy, BarlowTwinsLoss(lambda_param=0.0051)(rows(0), rows(1)))


def test_barlow_twins_does_not_see_scale_shift_or_order() -> None:
    order, expected = torch.randperm(9), barlow_twins(100 * rows(0), 100 * rows(1))
    torch.testing.assert_close(
        barlow_twins(400 * rows(0)[order] + 7, 100 * rows(1)[order]), expected, rtol=1e-6, atol=0
    )


def test_vicreg_equals_naive_loops() -> None:
    ours = [term.item() for term in vicreg(rows(0), rows(1), epsilon=EPSILON)]
    assert ours == pytest.approx(vicreg_by_loops(rows(0), rows(1)), rel=1e-10)
    assert ours[1] > 0.01  # some deviations are below 1, so that the hinge is tested


def test_vicreg_equals_lightlys_whose_variance_is_the_mean_of_the_views() -> None:
    invariance, variance, shared = vicreg(rows(0), rows(1), epsilon=EPSILON)
    theirs = VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0, eps=EPSILON)(rows(0), rows(1))
    torch.testing.assert_close(25 * invariance + 25 * variance / 2 + shared, theirs)


def test_vicreg_asks_nothing_of_values_that_vary_enough() -> None:
    wide_BD = 50 * rows(0)
    assert vicreg(wide_BD, wide_BD, epsilon=EPSILON)[1].item() == 0.0


def test_gradients_are_those_of_differences() -> None:
    first_BD, second_BD = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(barlow_twins, (first_BD, second_BD))
    assert torch.autograd.gradcheck(lambda *views: vicreg(*views, epsilon=EPSILON), (first_BD, second_BD))


def test_half_precision_is_computed_in_single() -> None:
    views = rows(0).bfloat16(), rows(1).bfloat16()
    single = views[0].float(), views[1].float()
    with torch.autocast("cpu", torch.bfloat16):
        halves = (*barlow_twins(*views), *vicreg(*views, epsilon=EPSILON))
    expected = (*barlow_twins(*single), *vicreg(*single, epsilon=EPSILON))
    torch.testing.assert_close(halves, expected, rtol=0, atol=0)
