"""LeOCLR without momentum: the un-cropped image and its crops find each other in the batch, and all are trained.

Alkhalefi, Leontidis, Zhong, TMLR 2024, arXiv:2403.06813, table 4: "an end-to-end framework, where the two encoders are
updated via backpropagation", against SimCLR. It is SimCLR on other pairs. No code of the authors is public, and the two
sentences around the table leave much open: that is a field of `Config` with its default and reason.

N images of one worker's batch, B of all workers', D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.losses import in_batch
from leoclr.methods import contract, leoclr, moco_v2, simclr
from leoclr.methods.contract import Batch, Facts, Step, require
from leoclr.methods.leoclr import Original
from leoclr.methods.leoclr import Reduction as ViewReduction

TRAINS = True
WATCHES: tuple[str, ...] = moco_v2.WATCHES
RECIPE: Mapping[str, Any] = {
    # 200 epochs with a batch of 256 (table 4's text) are the defaults already. What trains them is SimCLR's: its row of
    # table 4, 62 %, is SimCLR's appendix B.1 with 0.3 * batch / 256 (61.9 %); with 0.075 * sqrt(batch) it has 64.3 %.
    "lr": 0.3,
    **{key: value for key, value in simclr.RECIPE.items() if key not in ("epochs", "batch", "lr")},
}

Encoders = Literal["shared", "two"]
Negatives = Literal["nt_xent", "keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(simclr.Config):
    """Settings of the end-to-end LeOCLR: SimCLR's, whose framework it takes over, and what the paper leaves open.

    Raises: ValueError naming the field whose value is out of range.
    """

    # "the two encoders": "shared" is SimCLR's, one network for all views. "two": apart in weights from the start
    encoders: Encoders = "shared"
    # "nt_xent": SimCLR's loss of (original, crop 1) plus that of (original, crop 2), both sides of each pair search.
    # "keys": eq. (3) to the letter, the original searches among the batch's crops, those of both views
    negatives: Negatives = "nt_xent"
    view_reduction: ViewReduction = "sum"  # of the two crops' losses: eq. (3) sums
    original: Original = "whole"  # resized, not cropped, aspect ratio not kept (section 3). "crop": ablation
    augment_original: bool = True  # jitter, gray, blur, flip of the original: algorithm 1, line 4, augments all views

    def __post_init__(self) -> None:
        simclr.Config.__post_init__(self)
        choices = {
            "encoders": Encoders,
            "negatives": Negatives,
            "view_reduction": ViewReduction,
            "original": Original,
        }
        for field, literal in choices.items():
            require(getattr(self, field) in get_args(literal), field, f"one of {', '.join(get_args(literal))}")
        one_side = self.negatives == "keys"
        require(not one_side or self.reduction == "mean", "reduction", "mean where negatives is keys")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the original, then the two random crops."""
    return leoclr.with_original(config.view(size), original=config.original, augment=config.augment_original)


class Method(contract.Method):
    """SimCLR's encoder, or two of them, trained through the original and its crops; nothing stops a gradient.

    The stop-gradient of eq. (3) is momentum LeOCLR's: table 4's text trains both encoders.
    """

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone and head, two of each with `encoders="two"`, from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = simclr.new_head(config, backbone.feature_dim)
        if config.encoders == "two":
            self.key_backbone = new_backbone()
            self.key_head = simclr.new_head(config, backbone.feature_dim)

    def forward(self, batch: Batch) -> Step:
        """Return the loss in nats of the original and each of its crops, over the batch of all workers.

        Source: eq. (3) of arXiv:2403.06813 with the batch in place of the queue; its sum over images is a mean here.
        """
        original_ND, *crops = self._encode(batch.views)
        everyone = simclr.gathered([original_ND, *crops])
        terms = [self._term(original_ND, crops, everyone, view=view) for view in range(len(crops))]
        total = torch.stack(terms).sum()
        loss = total / len(terms) if self.config.view_reduction == "mean" else total
        return Step(loss=loss, watch=moco_v2.watch(original_ND, crops))

    def _encode(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        joint = self.config.joint_views
        if self.config.encoders == "shared":
            return simclr.encode(self.backbone, self.head, images, joint=joint)
        queries = simclr.encode(self.backbone, self.head, images[:1], joint=joint)
        return queries + simclr.encode(self.key_backbone, self.key_head, images[1:], joint=joint)

    def _term(self, original_ND: Tensor, crops: Sequence[Tensor], everyone: Sequence[Tensor], *, view: int) -> Tensor:
        """Return the loss of the original and crop `view`; `everyone` holds the originals [B, D], then each crop."""
        if self.config.negatives == "nt_xent":
            pair = (original_ND, crops[view])
            return simclr.contrast(pair, (everyone[0], everyone[1 + view]), config=self.config)
        size, count = len(everyone[0]), len(original_ND)
        own_N = torch.arange(count, device=original_ND.device) + distributed.rank() * count
        return in_batch(
            original_ND,
            torch.cat(list(everyone[1:])),
            positive_N=own_N + view * size,
            excluded_N=own_N + (1 - view) * size,  # the other crop is no negative, as in eq. (3)
            temperature=self.config.temperature,
        )
