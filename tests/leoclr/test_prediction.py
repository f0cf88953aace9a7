import math

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor

from leoclr.prediction import negative_cosine, unit_distance


def rows(seed: int) -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


def test_equal_naive_loops() -> None:
    cosines, distances = [], []
    for prediction, target in zip(rows(0).tolist(), rows(1).tolist(), strict=True):
        pairs = list(zip(unit(prediction), unit(target), strict=True))
        cosines.append(sum(p * t for p, t in pairs))
        distances.append(sum((p - t) ** 2 for p, t in pairs))
    assert negative_cosine(rows(0), rows(1)).item() == pytest.approx(-sum(cosines) / 7, rel=1e-12)
    assert unit_distance(rows(0), rows(1)).item() == pytest.approx(sum(distances) / 7, rel=1e-12)


def test_equals_lightlys() -> None:
    torch.testing.assert_close(negative_cosine(rows(0), rows(1)), NegativeCosineSimilarity()(rows(0), rows(1)))


def test_neither_length_nor_order_of_images_matters() -> None:
    order, expected = torch.randperm(7), unit_distance(rows(0), rows(1))
    torch.testing.assert_close(unit_distance(3.0 * rows(0)[order], rows(1)[order] / 7.0), expected)


def test_gradient_is_that_of_differences() -> None:
    prediction_ND, target_ND = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(unit_distance, (prediction_ND, target_ND))
