"""Steps to compare: this project's, and LeOCLR as a user of lightly writes it.

N images of one step, C channels, H x W pixels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from leoclr import backbones, methods
from leoclr.compiling import Compile
from leoclr.methods.contract import At, Batch, Facts
from leoclr.pretrain_settings import PretrainSettings
from leoclr.stepping import Place, Stepper

Precision = Literal["fp32", "bf16"]

TEMPERATURE, MOMENTUM, QUEUE, DIM = 0.2, 0.999, 65536, 128  # MoCo-v2's, see leoclr/methods/moco_v2.py
LR, SGD_MOMENTUM, DECAY = 0.03, 0.9, 1e-4  # see leoclr/pretrain_settings.py


@dataclass(frozen=True, slots=True)
class Size:
    """What is trained, and on how much."""

    backbone: str
    stem: backbones.Stem
    side: int  # pixels
    batch: int
    width: int = 64

    def __str__(self) -> str:
        return f"{self.backbone} {self.stem} stem @{self.side}, batch {self.batch}"


class Ours:
    """A method of this project on views that are there already."""

    def __init__(
        self,
        method: str,
        size: Size,
        device: torch.device,
        *,
        precision: Precision = "fp32",
        compile_as: Compile = "off",
    ) -> None:
        """Draw a new network from torch's global generator."""
        module = methods.module(method)
        config = module.Config()
        made = module.Method(
            config,
            lambda: backbones.build(size.backbone, width=size.width, stem=size.stem),
            Facts(images=1, classes=1),
        )
        settings = PretrainSettings(
            batch=size.batch, lr=LR, sgd_momentum=SGD_MOMENTUM, weight_decay=DECAY, precision=precision
        )
        self.stepper = Stepper(made, settings, Place(device=device, compile=compile_as))
        self.stepper.train()
        self.views = module.views(config, size.side)
        self._step = 0

    def take(self, views: tuple[Tensor, ...]) -> None:
        """Train on one batch, after giving it the memory layout that pre-training gives it."""
        shown = tuple(view_NCHW.contiguous(memory_format=torch.channels_last) for view_NCHW in views)
        self.stepper.take([Batch(shown)], At(self._step, 2**20, 0, 1), lr=LR)
        self._step += 1


class Lightly(nn.Module):
    """LeOCLR by lightly's example of MoCo with a third view and a second term; its optimizer with MoCo's settings.

    Source: https://github.com/lightly-ai/lightly/blob/e8d317fc5a87f4387a85a35e689869039ec249ee/examples/pytorch/moco.py
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        """Build the networks of the same sizes. Raises: ImportError without lightly."""
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        super().__init__()
        trunk = backbones.build(size.backbone, width=size.width, stem=size.stem)
        self.backbone = trunk
        self.projection_head = MoCoProjectionHead(trunk.feature_dim, trunk.feature_dim, DIM)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.to(device)
        self.criterion = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=(QUEUE, DIM)).to(device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=LR, momentum=SGD_MOMENTUM, weight_decay=DECAY)
        self.total_loss: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        query: Tensor = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return query

    def forward_momentum(self, x: Tensor) -> Tensor:
        key: Tensor = self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1))
        return key.detach()

    def take(self, views: tuple[Tensor, ...]) -> None:
        """Train on one batch."""
        from lightly.models.utils import update_momentum

        x_query, *x_keys = views
        update_momentum(self.backbone, self.backbone_momentum, m=MOMENTUM)
        update_momentum(self.projection_head, self.projection_head_momentum, m=MOMENTUM)
        query = self(x_query)
        keys = [self.forward_momentum(x_key) for x_key in x_keys]
        loss = torch.stack([self.criterion(query, key) for key in keys]).sum()
        self.total_loss += loss.detach()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def noise(size: Size, count: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return `count` views of a batch: noise, as normalized images are."""
    return tuple(torch.randn(size.batch, 3, size.side, size.side, device=device) for _ in range(count))
