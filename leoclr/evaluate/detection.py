"""Detection: train Faster R-CNN on a pre-trained backbone and score it as VOC or COCO does.

As facebookresearch/moco's detection/ on facebookresearch/detectron2; `detection_protocols` holds the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from leoclr import distributed, optim
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.distributed_norm import convert_sync_batchnorm
from leoclr.evaluate import coco_ap, features, metrics, precise_norm, scene_batches, scenes
from leoclr.evaluate.batches import global_batch
from leoclr.evaluate.detection_protocols import MoCoVoc
from leoclr.evaluate.detector_settings import Target
from leoclr.evaluate.scenes import SceneView, Shown
from leoclr.work import Number

if TYPE_CHECKING:
    from leoclr.evaluate.detector import Detector

Batch = tuple[list[Tensor], list[Target]]


class Detection:
    """Detection as a `leoclr.work.Work`; it trains the very backbone that it is given.

    An epoch is as many steps as fit into the training scenes, the last one cut short at `iterations`. Sides, mirroring
    and the anchors and regions that are sampled come from (seed, worker, step). Final numbers: ap, ap50 and ap75 on the
    test split, in percent; with COCO's score also ap_small, ap_medium and ap_large, each where there is such an object.
    Batch norm sees the scenes of all workers, each cell alike. MoCo's naiveSyncBN averages the workers' means, each
    worker alike, however many cells its padded batch has; detectron2/layers/batch_norm.py finds little difference.
    """

    def __init__(
        self, backbone: Backbone, data: DataSet, *, settings: MoCoVoc, seed: int, device: torch.device
    ) -> None:
        from leoclr.evaluate.detector import Detector  # here: it loads torchvision, and a plan only needs the settings

        self._settings, self._data, self._seed, self._device = settings, data, seed, device
        train = data.splits["train"]
        chosen = scene_batches.with_objects(train)
        self._batch = global_batch(settings.batch, len(chosen))
        self._pass = len(chosen) // self._batch  # steps of an epoch
        self.epochs = -(-settings.iterations // self._pass)
        self._planned = scene_batches.plan(
            chosen,
            scene_batches.wide(train.images, chosen),
            batch=self._batch,
            steps=settings.iterations + settings.precise_bn_steps,
            seed=seed,
        )
        with features.seeded(seed, torch.device("cpu")):
            detector = Detector(backbone, len(data.classes), settings=settings.detector)
        detector.to(device).to(memory_format=torch.channels_last).requires_grad_(True)
        if distributed.world_size() > 1:
            convert_sync_batchnorm(detector)
        self._detector: Detector = detector
        self._trained = distributed.wrap(detector, device)
        self._optimizer = optim.sgd(
            _groups(detector, settings), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._step = 0  # of the whole training; set by start_epoch

    def steps(self, epoch: int) -> int:
        return min(self._pass, self._settings.iterations - epoch * self._pass)

    def start_epoch(self, epoch: int, step: int) -> None:
        self._step = epoch * self._pass + step
        self._detector.train()

    def train_step(self) -> Mapping[str, Tensor | Number]:
        optim.set_lr(self._optimizer, self._settings.rate(self._step))
        losses = self._losses(self._step)
        loss = torch.stack(list(losses.values())).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._step += 1
        parts = {name: value.detach() for name, value in losses.items()}
        return {"loss": loss.detach(), "images": self._batch, **parts}

    def end_epoch(self, epoch: int) -> Mapping[str, Number]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"detector": self._detector.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self._detector.load_state_dict(state["detector"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Mapping[str, Number]:
        """Measure batch norm over batches that follow the training ones, detect, and score."""
        self._detector.train()
        steps = self._settings.precise_bn_steps
        precise_norm.measure(self._detector, lambda step: self._losses(self._settings.iterations + step), steps=steps)
        with features.evaluating(self._detector), torch.no_grad():
            found = [each for batch in self._test_batches() for each in self._predict(batch)]
        return self._score(found)

    def _score(self, found: list[metrics.Predictions]) -> Mapping[str, Number]:
        test, classes = self._data.splits["test"], len(self._data.classes)
        if self._settings.score == "coco":
            return coco_ap.coco_ap(found, test.scenes, num_classes=classes)
        points = {"voc07": 11, "voc_area": None}[self._settings.score]
        scores = metrics.detection_ap(found, test.scenes, num_classes=classes, points=points)
        return {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75}

    def _losses(self, step: int) -> dict[str, Tensor]:
        """Return the losses of the batch of `step`."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, distributed.rank(), step))))
        images, targets = self._take(step, rng)
        with features.seeded(int(rng.integers(2**63)), self._device):  # the samplers call torch.randperm
            losses: dict[str, Tensor] = self._trained(images, targets)
        return losses

    def _take(self, step: int, rng: np.random.Generator) -> Batch:
        train = self._data.splits["train"]
        images: list[Tensor] = []
        targets: list[Target] = []
        for index in self._planned[step].tolist():
            view = SceneView(
                side=int(rng.choice(self._settings.train_sides)),
                max_side=self._settings.max_side,
                mirror=bool(rng.random() < self._settings.flip_p),
            )
            shown = scenes.show(self._data, "train", index, view=view, device=self._device)
            images.append(shown.image)
            targets.append(scenes.target(train.scenes[index], shown))
        return images, targets

    def _test_batches(self) -> Iterator[list[Shown]]:
        """Yield the test scenes in batches of one size: without padding, a scene's boxes hang on the scene alone."""
        view = SceneView(side=self._settings.test_side, max_side=self._settings.max_side)
        batch: list[Shown] = []
        for index in range(len(self._data.splits["test"])):
            shown = scenes.show(self._data, "test", index, view=view, device=self._device)
            if batch and (len(batch) == self._batch or shown.image.shape != batch[0].image.shape):
                yield batch
                batch = []
            batch.append(shown)
        if batch:
            yield batch

    def _predict(self, batch: Sequence[Shown]) -> list[metrics.Predictions]:
        found = self._detector.detect([shown.image for shown in batch])
        return [scenes.predictions(each, shown) for each, shown in zip(found, batch, strict=True)]


def _groups(detector: nn.Module, settings: MoCoVoc) -> list[dict[str, Any]]:
    """Return batch norm's parameters and all others (biases among them), each with its weight decay.

    Source: detectron2/solver/build.py, `get_default_optimizer_params`; all at one rate, BIAS_LR_FACTOR 1.0.
    """
    norms = [module for module in detector.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    normal = {id(parameter) for norm in norms for parameter in norm.parameters()}
    others = [parameter for parameter in detector.parameters() if id(parameter) not in normal]
    return [
        {"params": others, "weight_decay": settings.weight_decay},
        {
            "params": [parameter for norm in norms for parameter in norm.parameters()],
            "weight_decay": settings.weight_decay_norm,
        },
    ]
