"""Top-k and mean per-class accuracy against torchmetrics."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from leoclr.evaluate import metrics


def case(seed: int, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores that are right more often than not, and labels of classes of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.multinomial(torch.arange(1.0, classes + 1), 300, replacement=True, generator=generator)
    scores_NC = torch.randn(300, classes, generator=generator) + 1.5 * torch.eye(classes)[labels_N]
    return scores_NC, labels_N


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_torchmetrics(k: int, seed: int) -> None:
    scores_NC, labels_N = case(seed)
    expected = multiclass_accuracy(scores_NC, labels_N, num_classes=7, top_k=k, average="micro")
    assert metrics.top_k(scores_NC, labels_N, k=k) == pytest.approx(100 * float(expected))


@pytest.mark.parametrize("seed", range(3))
def test_mean_per_class_is_torchmetrics(seed: int) -> None:
    scores_NC, labels_N = case(seed)
    expected = multiclass_accuracy(scores_NC, labels_N, num_classes=7, average="macro")
    found = metrics.mean_per_class(scores_NC, labels_N)
    assert found == pytest.approx(100 * float(expected))
    assert abs(found - metrics.top_k(scores_NC, labels_N, k=1)) > 0.1  # or it could be the other one
