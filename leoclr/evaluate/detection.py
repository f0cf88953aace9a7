"""Detection: train Faster R-CNN on a pre-trained backbone and score it as VOC does (facebookresearch/moco, detection/).

The recipe is `pascal_voc_R_50_C4_24k_moco.yaml` on detectron2's defaults; all layers and every batch norm train. A
port to other parts loses about a point (mmselfsup's MoCo-v2: AP50 81.06, not 82.4); a table of its numbers must say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leoclr import distributed, optim
from leoclr.backbones import Backbone
from leoclr.data.contract import DataSet
from leoclr.evaluate import features, metrics, scenes
from leoclr.evaluate.batches import global_batch, plan
from leoclr.evaluate.detector_settings import DetectorSettings, Target
from leoclr.evaluate.scenes import SceneView, Shown
from leoclr.work import Number

if TYPE_CHECKING:
    from leoclr.evaluate.detector import Detector

Batch = tuple[list[Tensor], list[Target]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSettings:
    """Settings of a detection training. Defaults: pascal_voc_R_50_C4_24k_moco.yaml and the files that it inherits from.

    With fewer images a step, divide `lr` and multiply iterations and milestones alike (facebookresearch/moco#11).
    """

    detector: DetectorSettings = field(default_factory=DetectorSettings)
    iterations: int = 24_000  # optimizer steps; SOLVER.MAX_ITER
    batch: int = 16  # scenes of one step, over all workers; SOLVER.IMS_PER_BATCH; cut to the training split
    lr: float = 0.02  # SOLVER.BASE_LR
    warmup: int = 100  # steps, in a straight line; SOLVER.WARMUP_ITERS
    warmup_start: float = 0.001  # share of `lr` at step 0; SOLVER.WARMUP_FACTOR
    milestones: tuple[int, ...] = (18_000, 22_000)  # steps from which the rate is a tenth of what it was; SOLVER.STEPS
    momentum: float = 0.9  # detectron2/config/defaults.py
    weight_decay: float = 1e-4  # defaults.py
    weight_decay_norm: float = 0.0  # of batch norm's parameters; defaults.py
    train_sides: tuple[int, ...] = tuple(
        range(480, 801, 32)
    )  # shorter side, drawn per scene, pixels; pascal_voc_R_50_C4
    test_side: int = 800  # pixels; defaults.py
    max_side: int = 1333  # longer side at most, pixels; defaults.py
    flip_p: float = 0.5  # defaults.py; 0 where a mirror image has another meaning, as with digits
    precise_bn_steps: int = 200  # batches that batch norm's test statistics are averaged over; TEST.PRECISE_BN.NUM_ITER

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "lr", "test_side", "max_side"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("warmup", "precise_bn_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative")
        for name in ("warmup_start", "momentum", "weight_decay", "weight_decay_norm", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in 0..1")
        if not self.train_sides or min(self.train_sides) <= 0:
            raise ValueError(f"train_sides: {self.train_sides} are not positive numbers")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones: {self.milestones} do not rise")

    def rate(self, step: int) -> float:
        """Return the learning rate at `step`."""
        warm = optim.warmup_factor(step, length=self.warmup, start=self.warmup_start)
        return warm * optim.step_decay(self.lr, step, milestones=self.milestones)


class Detection:
    """Detection as a `leoclr.work.Work`; it trains the very backbone that it is given.

    An epoch is one shuffled pass over the training scenes, the last one cut short at `iterations`. Sides, mirroring and
    the anchors and regions that are sampled come from (seed, worker, step). Final numbers: ap, ap50 and ap75 on the
    test split, in percent. Batch norm sees the scenes of all workers on CUDA, of each worker alone elsewhere.
    """

    def __init__(
        self, backbone: Backbone, data: DataSet, *, settings: DetectionSettings, seed: int, device: torch.device
    ) -> None:
        from leoclr.evaluate.detector import Detector  # here: it loads torchvision, and a plan only needs the settings

        self._settings, self._data, self._seed, self._device = settings, data, seed, device
        self._train = data.splits["train"]
        self._batch = global_batch(settings.batch, len(self._train))
        self._pass = len(self._train) // self._batch  # steps of a whole epoch
        self.epochs = -(-settings.iterations // self._pass)
        with features.seeded(seed, torch.device("cpu")):
            detector = Detector(backbone, len(data.classes), settings=settings.detector)
        detector.to(device).to(memory_format=torch.channels_last).requires_grad_(True)
        if device.type == "cuda" and distributed.world_size() > 1:
            detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)  # torch has it for CUDA alone
        self._detector: Detector = detector
        self._trained = distributed.wrap(detector, device)
        self._optimizer = optim.sgd(
            _groups(detector, settings), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._step = 0  # of the whole training; set by start_epoch
        self._planned: tuple[int, list[NDArray[np.int64]]] = (-1, [])  # epoch and its batches

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
        self._measure_batch_norm()
        test = self._data.splits["test"]
        with features.evaluating(self._detector), torch.no_grad():
            found = [each for batch in self._test_batches() for each in self._predict(batch)]
        scores = metrics.detection_ap(found, test.scenes, num_classes=len(self._data.classes))
        return {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75}

    def _losses(self, step: int) -> dict[str, Tensor]:
        """Return the losses of the batch of `step`."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, distributed.rank(), step))))
        images, targets = self._take(step, rng)
        with features.seeded(int(rng.integers(2**63)), self._device):  # torchvision's samplers call torch.randperm
            losses: dict[str, Tensor] = self._trained(images, targets)
        return losses

    def _take(self, step: int, rng: np.random.Generator) -> Batch:
        epoch, position = divmod(step, self._pass)
        if self._planned[0] != epoch:
            self._planned = epoch, plan(len(self._train), self._batch, seed=self._seed, epoch=epoch)
        images: list[Tensor] = []
        targets: list[Target] = []
        for index in self._planned[1][position].tolist():
            view = SceneView(
                side=int(rng.choice(self._settings.train_sides)),
                max_side=self._settings.max_side,
                mirror=bool(rng.random() < self._settings.flip_p),
            )
            shown = scenes.show(self._data, "train", index, view=view, device=self._device)
            images.append(shown.image)
            targets.append(scenes.target(self._train.scenes[index], shown))
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

    def _measure_batch_norm(self) -> None:
        """Set the test statistics of every batch norm to their means over batches that follow the training ones.

        Running averages lag behind weights that still move. Source: facebookresearch/fvcore, fvcore/nn/precise_bn.py.
        """
        norms = [module for module in self._detector.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        self._detector.train()
        for step in range(self._settings.precise_bn_steps):
            for norm in norms:
                norm.momentum = 1 / (
                    step + 1
                )  # a running mean over the batches so far, the first replacing what was there
            with torch.no_grad():
                self._losses(self._settings.iterations + step)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _groups(detector: nn.Module, settings: DetectionSettings) -> list[dict[str, Any]]:
    """Return batch norm's parameters and all others (biases among them), each with its weight decay."""
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
