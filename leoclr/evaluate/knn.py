"""Weighted k-nearest-neighbor vote on frozen features: the cheap monitor of a pre-training, and an evaluation.

M images of the bank, N queries, F feature values, K neighbors, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate import neighbors
from leoclr.evaluate.batches import labeled
from leoclr.evaluate.frozen import Frozen
from leoclr.evaluate.knn_protocols import KnnProtocol
from leoclr.evaluate.metrics import accuracies
from leoclr.work import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnSettings:
    """Settings of the monitor's vote."""

    k: int = 200  # neighbors; Wu et al. 2018, arXiv:1805.01978, 3.4, and the CIFAR-10 demo of facebookresearch/moco
    temperature: float = 0.1  # dimensionless; the same demo (Wu et al.: 0.07)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: {self.k} is not a positive number of neighbors")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} is not positive")


def vote(bank_MF: Tensor, labels_M: Tensor, queries_NF: Tensor, *, settings: KnnSettings) -> Tensor:
    """Return the class of each query, int64 [N]: the k nearest of the bank vote with weight exp(cosine / temperature).

    Rows of any length; k is clipped to the size of the bank. Equal votes go to the lower class.
    Source: Wu et al. 2018, arXiv:1805.01978, sec. 3.4.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> vote(bank, torch.tensor([3, 5]), torch.tensor([[0.9, 0.1]]), settings=KnnSettings(k=1)).tolist()
    [3]
    """
    (votes_NC,) = votes(bank_MF, labels_M, queries_NF, ks=(settings.k,), temperature=settings.temperature)
    return votes_NC.argmax(dim=1)


def votes(
    bank_MF: Tensor,
    labels_M: Tensor,
    queries_NF: Tensor,
    *,
    ks: Sequence[int],
    temperature: float,
    classes: int | None = None,
) -> list[Tensor]:
    """Return the votes [N, C] of the nearest k of the bank, for each k; the nearest one's weight is 1.

    C is `classes`, or one more than the largest label. All ks are served by one search, `leoclr.evaluate.neighbors`,
    and summed in float64, so that equal votes stay equal whatever their order.
    """
    found = neighbors.search(bank_MF, queries_NF, k=max(ks))
    similarity_NK = found.similarity_NK.double()
    weight_NK = ((similarity_NK - similarity_NK[:, :1]) / temperature).exp()
    label_NK = labels_M[found.index_NK]
    empty_NC = weight_NK.new_zeros(len(queries_NF), classes or int(labels_M.max()) + 1)
    return [empty_NC.scatter_add(1, label_NK[:, :k], weight_NK[:, :k]).float() for k in ks]


class NearestNeighbors:
    """kNN evaluation as a `leoclr.work.Work` without training: the labeled training images vote on the test split.

    Final numbers, in percent: `accuracies` at the first k, then "top1_k20" and so on at every k.
    """

    epochs = 0

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        settings: KnnProtocol,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self._frozen = Frozen(backbone, data, precision=settings.precision, device=device, workers=workers)
        self._data, self._settings = data, settings

    def steps(self, epoch: int) -> int:
        return 0

    def start_epoch(self, epoch: int, step: int) -> None:
        raise NotImplementedError("there is nothing to train")

    def train_step(self) -> Mapping[str, Tensor | Number]:
        raise NotImplementedError("there is nothing to train")

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        raise NotImplementedError("there is nothing to train")

    def state(self) -> dict[str, Any]:
        return {"backbone_sha256": self._frozen.digest}

    def load(self, state: dict[str, Any]) -> None:
        self._frozen.require_same(state["backbone_sha256"])

    def finish(self) -> Mapping[str, Number]:
        settings, bank = self._settings, labeled(self._data)
        of_k = votes(
            self._frozen.rows("train", settings.view, bank),
            self._frozen.labels("train", bank),
            self._frozen.rows("test", settings.view),
            ks=settings.k,
            temperature=settings.temperature,
            classes=len(self._data.classes),
        )
        labels_N = self._frozen.labels("test")
        scores = [accuracies(votes_NC, labels_N) for votes_NC in of_k]
        return scores[0] | {f"top1_k{k}": score["top1"] for k, score in zip(settings.k, scores, strict=True)}
