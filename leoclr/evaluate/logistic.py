"""Multinomial logistic regression on frozen features: L-BFGS to the optimum, the L2 penalty chosen by validation.

M training images, N images to score, F feature values, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate.batches import labeled
from leoclr.evaluate.frozen import Frozen, choice
from leoclr.evaluate.linear_protocols import LBFGS
from leoclr.evaluate.metrics import accuracies
from leoclr.evaluate.splits import with_validation
from leoclr.evaluate.validation import Indices, hold_out
from leoclr.work import Number

CHUNK = 65_536
"""Rows whose scores are held at once: 65,536 x 1,000 classes in float64 are 0.5 GB. Moves no number but by rounding."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A classifier: scores are features @ weight + bias. In float64: in float32 a line search stops too early."""

    weight_FC: Tensor
    bias_C: Tensor

    @classmethod
    def zeros(cls, feature_dim: int, classes: int, device: torch.device) -> Solution:
        """Return the classifier that knows nothing."""
        return cls(
            torch.zeros(feature_dim, classes, dtype=torch.float64, device=device),
            torch.zeros(classes, dtype=torch.float64, device=device),
        )

    def scores(self, rows_NF: Tensor) -> Tensor:
        """Return the scores [N, C] of features."""
        return torch.cat([rows.double() @ self.weight_FC + self.bias_C for rows in rows_NF.split(CHUNK)])


def fit(rows_MF: Tensor, labels_M: Tensor, *, l2: float, start: Solution, iterations: int) -> tuple[Solution, float]:
    """Return the minimum of sum of cross-entropies + l2 / 2 * |weight|^2, and its value divided by M.

    The bias is not penalized, so features may be centered for the solver's sake: the optimum is the same classifier.
    Source: scikit-learn's LogisticRegression(C=1 / l2), whose objective it is.
    """
    mean_F = torch.stack([rows.double().sum(dim=0) for rows in rows_MF.split(CHUNK)]).sum(dim=0) / len(rows_MF)
    weight_FC = start.weight_FC.clone().requires_grad_()
    shifted_C = (start.bias_C + mean_F @ start.weight_FC).requires_grad_()
    # scikit-learn stops at a gradient of 1e-4 (tol); a hundredth of it costs little with a strong Wolfe line search
    solver = torch.optim.LBFGS(
        [weight_FC, shifted_C],
        max_iter=iterations,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        value = (l2 / (2 * len(rows_MF))) * weight_FC.square().sum()
        value.backward()
        for rows, labels in zip(rows_MF.split(CHUNK), labels_M.split(CHUNK), strict=True):
            scores_NC = (rows.double() - mean_F) @ weight_FC + shifted_C
            part = functional.cross_entropy(scores_NC, labels, reduction="sum") / len(rows_MF)
            part.backward()
            value = value.detach() + part.detach()
        return value

    solver.step(objective)
    value = float(objective())
    weight_FC = weight_FC.detach()
    return Solution(weight_FC, shifted_C.detach() - mean_F @ weight_FC), value


class LogisticProbe:
    """Logistic regression as a `leoclr.work.Work`: an epoch of one step for each penalty, then one for all images.

    Final numbers: `accuracies` of the test split, in percent, the chosen "l2" and its accuracy on held-out images.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        settings: LBFGS,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.epochs = len(settings.l2) + settings.refit
        self._settings, self._device = settings, device
        self._kept, self._held = hold_out(data, how=settings.hold_out, images=settings.valid_images, seed=seed)
        self._data = data = with_validation(data)
        self._frozen = Frozen(backbone, data, precision=settings.precision, device=device, workers=workers)
        self._labeled = labeled(data)
        self._rows_MF = self._frozen.rows("train", settings.view, self._labeled)
        self._last = self._best = Solution.zeros(self._rows_MF.shape[1], len(data.classes), device)
        self._chosen: dict[str, float] = {}  # "l2" and the accuracy that chose it
        self._epoch = 0

    def steps(self, epoch: int) -> int:
        return 1

    def start_epoch(self, epoch: int, step: int) -> None:
        self._epoch = epoch

    def train_step(self) -> Mapping[str, Tensor | Number]:
        """Solve for one penalty, from the solution of the next stronger one."""
        refits = self._epoch == len(self._settings.l2)
        images = self._labeled if refits else self._kept
        self._last, loss = fit(
            self._rows(images),
            self._frozen.labels("train", images),
            l2=self._chosen["l2"] if refits else self._settings.l2[self._epoch],
            start=self._best if refits else self._last,
            iterations=self._settings.iterations,
        )
        return {"loss": loss, "images": len(images)}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        if epoch == len(self._settings.l2):
            self._best = self._last
            return {}
        name = choice(self._data)
        scores_NC = self._last.scores(self._rows(self._held))
        score = accuracies(scores_NC, self._frozen.labels("train", self._held))[name]
        if score > self._chosen.get(f"valid_{name}", -1.0):  # of equal ones the strongest penalty
            self._best, self._chosen = self._last, {"l2": self._settings.l2[epoch], f"valid_{name}": score}
        return {"l2": self._settings.l2[epoch], f"valid_{name}": score}

    def state(self) -> dict[str, Any]:
        return {
            "backbone_sha256": self._frozen.digest,
            "chosen": self._chosen,
            "last": [self._last.weight_FC, self._last.bias_C],
            "best": [self._best.weight_FC, self._best.bias_C],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state()` gave. Raises: RuntimeError when it belongs to another backbone."""
        self._frozen.require_same(state["backbone_sha256"])
        self._chosen = state["chosen"]
        self._last, self._best = Solution(*state["last"]), Solution(*state["best"])

    def finish(self) -> Mapping[str, Number]:
        self._frozen.require_still()
        scores_NC = self._best.scores(self._frozen.rows("test", self._settings.view))
        return accuracies(scores_NC, self._frozen.labels("test")) | self._chosen

    def _rows(self, images: Indices) -> Tensor:
        """Return the features of training images, of those that are labeled; of all of them without a copy."""
        if len(images) == len(self._labeled):
            return self._rows_MF
        return self._rows_MF[torch.from_numpy(self._labeled.searchsorted(images)).to(self._device)]
