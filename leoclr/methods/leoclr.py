"""LeOCLR: the un-cropped image finds both of its random crops among the keys of a queue.

Alkhalefi, Leontidis, Zhong, TMLR 2024, arXiv:2403.06813. It is MoCo-v2 with another query and two positives; no code of
the authors is public. What the paper leaves open is a field of `Config` with its default and reason.

N images of one worker's batch, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import embed
from leoclr.losses import info_nce_shared
from leoclr.methods import moco_v2
from leoclr.methods.contract import Batch, Facts, Step, require

TRAINS = True
WATCHES: tuple[str, ...] = moco_v2.WATCHES
RECIPE: Mapping[str, Any] = {}  # section 4.1: MoCo-v2's, whose defaults the settings are; 200 and 800 epochs, batch 256

Reduction = Literal["sum", "mean"]
Enqueue = Literal["first", "both"]
Original = Literal["whole", "crop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(moco_v2.Config):
    """Settings of LeOCLR: MoCo-v2's, whose framework and augmentations it takes over (section 3), and its own.

    The paper gives neither temperature, queue size, head nor shuffled batch norm: they stay MoCo-v2's. So does
    `crop_scale`: algorithm 1's `RandomResizedCrop(224, 224)` is no valid call, torchvision's default is (0.08, 1).

    Raises: ValueError naming the field whose value is out of range.
    """

    view_reduction: Reduction = "sum"  # of the two views' mean losses: eq. (3) sums; "mean" halves the effective rate
    enqueue: Enqueue = "both"  # key views pushed per step: not stated. "both" halves the queue's life in steps
    original: Original = "whole"  # the query: resized, not cropped, aspect ratio not kept (section 3). "crop": ablation
    augment_original: bool = True  # jitter, gray, blur, flip of the query: algorithm 1, line 4, augments all views
    joint_keys: bool = False  # both key views in one pass: faster, batch norm sees 2N images. Lines 6-7: two passes

    def __post_init__(self) -> None:
        moco_v2.Config.__post_init__(self)
        for field, choices in (("view_reduction", Reduction), ("enqueue", Enqueue), ("original", Original)):
            require(getattr(self, field) in get_args(choices), field, f"one of {', '.join(get_args(choices))}")


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the original, then the two random crops."""
    return with_original(config.view(size), original=config.original, augment=config.augment_original)


def with_original(cropped: View, *, original: Original, augment: bool) -> tuple[View, ...]:
    """Return the original as `original` and `augment` make it from `cropped`, then `cropped` twice."""
    first = replace(cropped, crop_scale=None) if original == "whole" else cropped
    if not augment:
        first = replace(first, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0)
    return (first, cropped, cropped)


class Method(moco_v2.Method):
    """Momentum contrast from the original image to its two crops; encoders, queue and their updates are MoCo-v2's."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, its copy, and a queue of random keys, all from torch's global generator."""
        super().__init__(config, new_backbone, facts)
        self.config: Config = config

    def forward(self, batch: Batch) -> Step:
        """Return the loss in nats of finding the keys of views 1 and 2 by view 0's query, and the keys to push.

        Source: eq. (3) and algorithm 1 of arXiv:2403.06813; the sum over the batch there is a mean here, as in moco.
        """
        original_NCHW, *crops = batch.views
        query_ND = embed(self.backbone, self.head, original_NCHW)
        keys = self._keys(crops)
        terms = info_nce_shared(query_ND, keys, self.queue.keys_KD, temperature=self.config.temperature)
        loss = torch.stack(terms).sum()
        if self.config.view_reduction == "mean":
            loss = loss / len(terms)
        pushed = keys if self.config.enqueue == "both" else keys[:1]
        return Step(loss=loss, keys=pushed, watch=moco_v2.watch(query_ND, keys))

    def _keys(self, crops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self.config.joint_keys:
            joint: Tensor = self.slow(torch.cat(list(crops)), view=0)
            return joint.chunk(len(crops))
        return tuple(self.slow(crop_NCHW, view=view) for view, crop_NCHW in enumerate(crops))
