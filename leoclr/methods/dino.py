"""DINO: a student sees all views and predicts what its slow teacher says of the large ones.

Caron et al. 2021, arXiv:2104.14294. Where the paper leaves a choice, the code decides, below "dino":
https://github.com/facebookresearch/dino/tree/7c446df5b9f45747937fb0d72314eb9f7b66930a

N images of one worker's batch, V views, F feature values, D values of the bottleneck, P outputs of a head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr import distributed, optim
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.losses import spread
from leoclr.methods import contract
from leoclr.methods.asymmetric import AsymmetricAugmentation
from leoclr.methods.augmentation import require_probability, require_shares
from leoclr.methods.contract import At, Batch, Facts, Step, require
from leoclr.momentum import follow
from leoclr.multicrop import features

TRAINS = True
WATCHES: tuple[str, ...] = ("teacher_spread", "teacher_entropy")
RECIPE: Mapping[str, Any] = {  # dino README, "ResNet-50 and other convnets trainings", and the defaults of main_dino.py
    "epochs": 100,  # the published 75.3 % is of 800 epochs, whose arguments the repository does not hold
    "batch": 512,  # 64 on each of 8 GPUs
    "lr": 0.06,  # 0.03 * batch / 256
    "decay_vectors": False,  # dino utils.py, get_params_groups
    "rate_moves": "step",
    "warmup_epochs": 10,
    "final_lr": 1e-6 / 0.06,  # --min_lr
    "sync_bn": True,
}

TAUGHT = 2  # views that the teacher sees, the large ones
SMALL_SHARE = 96 / 224  # side of a small crop by that of a large one; dino main_dino.py, DataAugmentationDINO
Network = Literal["teacher", "student"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AsymmetricAugmentation):
    """Settings of DINO; the defaults are the README's for a ResNet-50, else those of main_dino.py.

    Crops are resized bicubically there, bilinearly here.

    Raises: ValueError naming the field whose value is out of range.
    """

    student_temperature: float = 0.1  # dimensionless, above 0; class DINOLoss
    teacher_temperature: float = 0.04  # after its warm-up; --teacher_temp. Section 3.2: 0.07 after 30 epochs (ViT)
    first_teacher_temperature: float = 0.04  # --warmup_teacher_temp
    teacher_warmup_epochs: int = 0  # --warmup_teacher_temp_epochs
    momentum: float = 0.996  # of the teacher at the start, 1 at the end; --momentum_teacher
    center_momentum: float = 0.9  # class DINOLoss
    dim: int = 65536  # outputs of a head; --out_dim
    hidden_dim: int = 2048  # vision_transformer.py, class DINOHead
    bottleneck_dim: int = 256  # the same
    norm_last_layer: bool = True  # the last layer's rows have unit length and stay so; --norm_last_layer
    freeze_epochs: int = 1  # the last layer rests so long at the start; --freeze_last_layer
    clip: float = 3.0  # longest gradient of one parameter, 0: any; --clip_grad
    small_crops: int = 8  # --local_crops_number; the paper's ResNet-50 has 6 (table 2)
    evaluate: Network = "teacher"  # eval_linear.py, --checkpoint_key; section 3.1: the better one all through training

    crop_scale: tuple[float, float] = (0.14, 1.0)  # of the large crops; README for convnets
    small_crop_scale: tuple[float, float] = (0.05, 0.14)  # the same
    small_blur_p: float = 0.5  # main_dino.py, DataAugmentationDINO

    def __post_init__(self) -> None:
        AsymmetricAugmentation.__post_init__(self)
        require_shares(self.small_crop_scale, "small_crop_scale")
        require_probability(self.small_blur_p, "small_blur_p")
        for field in ("student_temperature", "teacher_temperature", "first_teacher_temperature"):
            require(getattr(self, field) > 0, field, "above 0")
        for field in ("momentum", "center_momentum"):
            require(0 <= getattr(self, field) <= 1, field, "from 0 to 1")
        for field in ("dim", "hidden_dim", "bottleneck_dim"):
            require(getattr(self, field) >= 1, field, "at least 1")
        for field in ("teacher_warmup_epochs", "freeze_epochs", "clip", "small_crops"):
            require(getattr(self, field) >= 0, field, "at least 0")
        require(self.evaluate in get_args(Network), "evaluate", f"one of {', '.join(get_args(Network))}")

    def temperature_at(self, epoch: int) -> float:
        """Return the teacher's temperature in `epoch`: a straight line that ends with the last warm-up epoch."""
        warmup, first = self.teacher_warmup_epochs, self.first_teacher_temperature
        if epoch >= warmup:
            return self.teacher_temperature
        return first + (self.teacher_temperature - first) * epoch / max(1, warmup - 1)


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return two large crops, one always blurred and one now and then solarized, then the small ones."""
    small = replace(
        config.view(max(1, round(size * SMALL_SHARE))),
        crop_scale=config.small_crop_scale,
        blur_p=config.small_blur_p,
    )
    return (*config.pair(size), *(small,) * config.small_crops)


class Head(nn.Module):
    """Three layers with GELU, unit length, and a last layer whose rows have a norm of their own.

    Source: dino vision_transformer.py, class DINOHead; `weight_norm` there is `scale * row / |row|` here.
    """

    def __init__(self, feature_dim: int, config: Config) -> None:
        """Draw new weights from torch's global generator."""
        super().__init__()
        hidden = config.hidden_dim
        layers = [nn.Linear(feature_dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, config.bottleneck_dim)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        last = nn.Linear(config.bottleneck_dim, config.dim, bias=False)
        self.last_PD = last.weight
        self.scale_P1 = nn.Parameter(torch.ones(config.dim, 1), requires_grad=not config.norm_last_layer)

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return outputs [N, P]."""
        bottleneck_ND = functional.normalize(self.mlp(features_NF), dim=1)
        return functional.linear(bottleneck_ND, self.scale_P1 * functional.normalize(self.last_PD, dim=1))


class Method(contract.Method):
    """A student and its slow teacher, whose outputs are centered and sharpened, so that neither collapse pays."""

    center_1P: Tensor

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and head and their copies, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = Head(backbone.feature_dim, config)
        self.teacher = nn.ModuleDict({"backbone": copy.deepcopy(backbone), "head": copy.deepcopy(self.head)})
        self.teacher.requires_grad_(False)
        self.register_buffer("center_1P", torch.zeros(1, config.dim))
        self._at = At(0, 1, 0, 1)

    @classmethod
    def coupling(cls, config: Any) -> str:
        """Return "": each image's cross-entropy is its own, and the center moves after the step."""
        return ""

    def forward(self, batch: Batch) -> Step:
        """Return the mean cross-entropy in nats between teacher and student on different views of an image.

        Source: eq. (3) of arXiv:2104.14294; dino main_dino.py, class DINOLoss. The key is the teacher's mean output.
        """
        with torch.no_grad():
            taught_XP = self.teacher["head"](features(self.teacher["backbone"], batch.views[:TAUGHT]))
            temperature = self.config.temperature_at(self._at.epoch)
            targets = ((taught_XP - self.center_1P) / temperature).softmax(dim=1).chunk(TAUGHT)
        outputs_XP = self.head(features(self.backbone, batch.views)) / self.config.student_temperature
        predictions = outputs_XP.log_softmax(dim=1).chunk(len(batch.views))
        terms = [
            -(target_NP * log_NP).sum(dim=1).mean()
            for view, target_NP in enumerate(targets)
            for other, log_NP in enumerate(predictions)
            if other != view
        ]
        entropy = -targets[0].xlogy(targets[0]).sum(dim=1).mean() / math.log(max(2, self.config.dim))
        watch = (("teacher_spread", spread(functional.normalize(taught_XP, dim=1))), ("teacher_entropy", entropy))
        mean_1P = taught_XP.mean(dim=0, keepdim=True, dtype=self.center_1P.dtype)  # autocast would round it
        return Step(torch.stack(terms).mean(), (mean_1P,), watch)

    def before_step(self, at: At) -> None:
        """Take note of the epoch, which decides the teacher's temperature."""
        self._at = at

    def after_backward(self, at: At) -> None:
        """Shorten each parameter's gradient to `clip`, and hold the last layer still at the start.

        Source: dino utils.py, clip_gradients and cancel_gradients_last_layer.
        """
        if self.config.clip:
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            shares = [(self.config.clip / (norm + 1e-6)).clamp(max=1.0) for norm in torch._foreach_norm(gradients)]
            torch._foreach_mul_(gradients, shares)
        if at.epoch < self.config.freeze_epochs:
            self.head.last_PD.grad = self.head.scale_P1.grad = None

    def update(self, step: Step) -> None:
        """Move the center towards the teacher's mean output over all workers, and the teacher towards the student."""
        mean_1P = distributed.gather(step.keys[0]).mean(dim=0, keepdim=True)
        self.center_1P.lerp_(mean_1P, 1.0 - self.config.center_momentum)
        momentum = 1.0 - optim.cosine(1.0 - self.config.momentum, self._at.step, total=self._at.total)
        follow(list(self.teacher.values()), [self.backbone, self.head], momentum=momentum)

    def evaluated(self) -> nn.Module:
        """Return the teacher's trunk, or the student's where the settings say so."""
        return self.teacher["backbone"] if self.config.evaluate == "teacher" else self.backbone
