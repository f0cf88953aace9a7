"""Linear evaluation: a linear classifier on the features of a frozen backbone, trained by SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from leoclr import distributed, optim
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate.batches import Batches, ImageBatches, Indices, RowBatches, global_batch, labeled
from leoclr.evaluate.classifiers import Classifiers, best_loss
from leoclr.evaluate.frozen import Frozen, choice
from leoclr.evaluate.linear_protocols import LinearSettings
from leoclr.evaluate.metrics import accuracies
from leoclr.evaluate.splits import with_validation
from leoclr.evaluate.validation import hold_out
from leoclr.work import Number


class LinearProbe:
    """Linear evaluation as a `leoclr.work.Work`. Final numbers: `accuracies` of the test split, in percent.

    With several rates, all their classifiers learn from the same batches in one pass, without the held-out images;
    the rate that is best on those after the last epoch is chosen and, if settings say so, trained again on all images.
    No number of an earlier epoch is ever chosen or reported.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: DataSet,
        *,
        settings: LinearSettings,
        seed: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.epochs = settings.epochs * (2 if settings.chooses and settings.refit else 1)
        self._settings, self._device, self._seed, self._workers = settings, device, seed, workers
        self._kept = labeled(data)
        self._held = self._kept[:0]
        if settings.chooses:
            self._kept, self._held = hold_out(data, how=settings.hold_out, images=settings.valid_images, seed=seed)
            data = with_validation(data)
        self._data, self._labeled = data, labeled(data)
        self._frozen = Frozen(backbone, data, precision=settings.precision, device=device, workers=workers)
        self._rows_MF = (  # of every labeled training image, where they are needed more than once
            self._frozen.rows("train", settings.view, self._labeled)
            if settings.standardize or settings.augment == "none"
            else None
        )
        self._chosen: int | None = None if settings.chooses else 0  # which of the rates
        self._valid: dict[str, float] = {}
        self._begin(settings.lrs, self._kept)

    def steps(self, epoch: int) -> int:
        images = len(self._labeled if epoch >= self._settings.epochs else self._kept)
        return images // global_batch(self._settings.batch, images)

    def start_epoch(self, epoch: int, step: int) -> None:
        if epoch >= self._settings.epochs:
            self._refit()
        self._at = (epoch % self._settings.epochs, step)
        self._batches.start(*self._at)

    def train_step(self) -> Mapping[str, Tensor | Number]:
        self._set_rates()
        inputs, labels_N = self._batches.take()
        losses = [functional.cross_entropy(scores_NC, labels_N) for scores_NC in self._trained(self._features(inputs))]
        self._optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        self._optimizer.step()
        self._at = (self._at[0], self._at[1] + 1)
        return {"loss": best_loss(losses), "images": self._batches.batch}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        if epoch == 0:  # where facebookresearch/moco's sanity_check looks
            self._frozen.require_still()
        if epoch == self._settings.epochs - 1 and self._settings.chooses:
            self._choose()
        return self._valid if epoch == self._settings.epochs - 1 else {}

    def state(self) -> dict[str, Any]:
        return {
            "backbone_sha256": self._frozen.digest,
            "chosen": self._chosen,
            "valid": self._valid,
            "lrs": list(self._lrs),
            "heads": self._classifiers.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state()` gave. Raises: RuntimeError when it belongs to another backbone."""
        self._frozen.require_same(state["backbone_sha256"])
        self._chosen, self._valid = state["chosen"], state["valid"]
        if len(state["lrs"]) < len(self._lrs):
            self._refit()
        self._classifiers.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        self._frozen.require_still()
        assert self._chosen is not None
        which = self._chosen if len(self._lrs) > 1 else 0
        labels_N = self._frozen.labels("test")
        final = accuracies(self._scores(self._frozen.rows("test", self._settings.view))[which], labels_N)
        if self._settings.random_crop_view:
            scores_NC = self._scores(self._frozen.rows("test", self._settings.random_crop_view))[which]
            final["random_crop_top1"] = accuracies(scores_NC, labels_N)["top1"]
        return final | self._valid

    def _begin(self, lrs: tuple[float, ...], images: Indices) -> None:
        """Start classifiers with these rates on these training images."""
        settings, self._lrs = self._settings, lrs
        dim, classes = self._frozen.backbone.feature_dim, len(self._data.classes)
        self._classifiers = Classifiers(dim, classes, count=len(lrs), init=settings.init, seed=self._seed)
        self._classifiers.to(self._device)
        self._trained = distributed.wrap(self._classifiers, self._device)
        self._optimizer = optim.sgd(
            self._classifiers.groups(),
            lr=lrs[0],
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
        self._batches = self._new_batches(images)

    def _refit(self) -> None:
        """Start the chosen rate anew on all training images, unless that is under way."""
        assert self._chosen is not None
        if len(self._lrs) > 1:
            self._begin((self._settings.lrs[self._chosen],), self._labeled)

    def _choose(self) -> None:
        name = choice(self._data)
        labels_N = self._frozen.labels("train", self._held)
        scores = [accuracies(scores_NC, labels_N)[name] for scores_NC in self._scores(self._rows(self._held))]
        self._chosen = max(range(len(scores)), key=lambda which: scores[which])  # of equal ones the first
        self._valid = {f"valid_{name}": scores[self._chosen], "lr": self._settings.lrs[self._chosen]}

    def _rows(self, images: Indices) -> Tensor:
        """Return the features of labeled training images, shown as test images; of all of them without a copy.

        ImageNet's are 10 GB.
        """
        if self._rows_MF is None:
            return self._frozen.rows("train", self._settings.view, images)
        among = self._labeled.searchsorted(images)
        return self._rows_MF if len(among) == len(self._rows_MF) else self._rows_MF[torch.from_numpy(among)]

    def _set_rates(self) -> None:
        (epoch, step), settings = self._at, self._settings
        position = epoch + step / self._batches.steps if settings.rate_moves == "step" else epoch
        for group, lr in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = settings.rate(lr, position, batch=self._batches.batch)

    def _new_batches(self, images: Indices) -> Batches:
        settings = self._settings
        self._shift_F, self._scale_F = (torch.tensor(value, device=self._device) for value in (0.0, 1.0))
        if self._rows_MF is not None:
            among = self._labeled.searchsorted(images)
            if settings.standardize:
                self._scale_F, self._shift_F = torch.std_mean(self._rows(images), dim=0, correction=0)
            if settings.augment == "none":
                labels_M = self._frozen.labels("train", self._labeled)
                return RowBatches(self._rows_MF, labels_M, chosen=among, batch=settings.batch, seed=self._seed)
        view = View(
            size=settings.view.size,
            crop_scale=settings.crop_scale,
            jitter_p=0,
            gray_p=0,
            blur_p=0,
            flip_p=settings.flip_p,
        )
        return ImageBatches(
            self._data,
            view,
            chosen=images,
            batch=settings.batch,
            seed=self._seed,
            device=self._device,
            workers=self._workers,
        )

    def _features(self, inputs: Tensor) -> Tensor:
        """Return features of images [N, C, H, W], ready for the classifiers; inputs [N, F] are features already."""
        return self._standardize(inputs if inputs.ndim == 2 else self._frozen.features(inputs))

    @torch.no_grad()
    def _scores(self, rows_NF: Tensor) -> list[Tensor]:
        scores: list[Tensor] = self._classifiers(self._standardize(rows_NF))
        return scores

    def _standardize(self, features_NF: Tensor) -> Tensor:
        # A feature that never fires over the training split has variance 0: it stays 0 instead of becoming infinite.
        return (features_NF - self._shift_F) / self._scale_F.clamp_min(1e-6)
