"""A backbone that is read and never moved: its features, and the proof that it stayed as it was."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leoclr.augment.views import TestView
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate import features
from leoclr.evaluate.folded import Folded, Precision


class Frozen:
    """A backbone in evaluation mode, so that its batch norm statistics rest too, and a sha256 over all it holds.

    Features come from a folded copy of it, in the `precision` that is asked for.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        precision: Precision,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        """Take the `backbone` to `device`; `workers` processes read the images of `rows`."""
        if device.type == "cuda":  # as `leoclr.stepping` has it: images of a protocol have one size
            torch.backends.cudnn.benchmark = True
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.digest = features.digest(self.backbone)
        self._folded = Folded(self.backbone, precision)
        self._folded_digest = features.digest(self._folded)
        self._data, self._device, self._workers = data, device, workers

    @torch.no_grad()
    def features(self, images_NCHW: Tensor) -> Tensor:
        """Return the float32 features [N, F] of normalized images."""
        features_NF: Tensor = self._folded(images_NCHW)
        return features_NF

    def rows(self, split: str, view: TestView, chosen: NDArray[np.int64] | None = None) -> Tensor:
        """Return the features [N, F] of the images of `split`, or of those `chosen`, in their order."""
        return features.extract(
            self._folded,
            self._data,
            split,
            view=view,
            device=self._device,
            chosen=chosen,
            workers=self._workers,
        )

    def labels(self, split: str, chosen: NDArray[np.int64] | None = None) -> Tensor:
        """Return the classes of the same images, int64 [N]."""
        labels_N = features.labels(self._data, split, self._device)
        return labels_N if chosen is None else labels_N[torch.from_numpy(chosen).to(self._device)]

    def require_still(self) -> None:
        """Raise RuntimeError when a parameter or buffer moved (facebookresearch/moco, main_lincls.py, sanity_check).

        It asks of the backbone and of the copy that features come from.
        """
        now = features.digest(self.backbone), features.digest(self._folded)
        if now != (self.digest, self._folded_digest):
            raise RuntimeError("the backbone of an evaluation on frozen features changed while it ran")

    def require_same(self, digest: str) -> None:
        """Raise RuntimeError when a saved state with this `digest` belongs to another backbone."""
        if digest != self.digest:
            raise RuntimeError("the saved state belongs to an evaluation of another backbone")


def choice(data: DataSet) -> str:
    """Return the accuracy that settings are chosen by: the one that the data set's papers report."""
    return "mean_per_class" if data.metric == "mean_per_class" else "top1"
