"""CLSA: MoCo-v2, and strongly augmented crops that must rank the queue's keys as weakly augmented ones do.

Wang and Qi 2021, arXiv:2104.07713. Where paper and code differ, both are said and the choice is a field. The
code, below "code": https://github.com/maple-research-lab/CLSA/tree/37df76cf5cb032683e57b70a3a4090f0d524c8fd

N images of one worker's batch, B of all workers', D embedding values, K keys of a bank, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import embed
from leoclr.losses import ddm
from leoclr.methods import moco_v2
from leoclr.methods.augmentation import require_probability
from leoclr.methods.contract import Batch, Facts, Step, require

TRAINS = True
WATCHES: tuple[str, ...] = (*moco_v2.WATCHES, "contrastive", "strong")
RECIPE: Mapping[str, Any] = {}  # section 4.1 and cmd/run_single.sh: MoCo-v2's, 200 epochs, batch 256, lr 0.03

Variant = Literal["single", "multi"]
Bank = Literal["batch", "own"]
StrongLoss = Literal["ddm", "contrastive"]
Pool = Literal["code", "paper"]

CROPS = ((224, 1.0), (192, 0.86), (160, 0.715), (128, 0.571), (96, 0.429))
"""Side in pixels, where the image's is 224, and share of `crop_scale`: code, cmd/run_multi.sh.

Section 4.2 has the sides too, the shares not. The code's lists are 0.2 and 1.0 times these, to three digits."""

_PICKS: Mapping[Variant, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "single": ((0,), (4,)),  # code, cmd/run_single.sh: 224 weak, 96 strong; section 4.2
    "multi": ((0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),  # code, cmd/run_multi.sh
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(moco_v2.Config):
    """Settings of CLSA: MoCo-v2's and its own. `variant` gives the crops; `pick_weak` and `pick_strong` change them.

    Multi in the paper has one weak view and five strong ones, 1 contrastive term and 5 of DDM (algorithm 1, section
    4.2): `pick_weak=(0,)`. In its code, and here, five of each: 5 contrastive terms and 25 of DDM, all summed.

    Raises: ValueError naming the field whose value is out of range.
    """

    variant: Variant = "single"  # section 4.2
    pick_weak: tuple[int, ...] | None = None  # places in CROPS of the weak queries; None: the variant's
    pick_strong: tuple[int, ...] | None = None  # likewise of the strong queries
    # What a query is ranked against, besides the queue. "batch": the keys of all images, so that they are negatives too
    # (code, model/CLSA.py). "own": its own image's key alone (eqs. 1 and 3)
    bank: Bank = "batch"
    # What strong queries are trained by; table 4 (single, 200 epochs): "ddm" 69.4 %, "contrastive" 68.0 %
    strong_loss: StrongLoss = "ddm"
    strong_weight: float = 1.0  # of that loss: beta of section 3.3, `--alpha` of the code
    strong_temperature: float = 0.2  # of DDM's distributions; code, `--clsa_t`. One tau for all in section 3.3
    # Strong augmentation, after the weak one (code, data_processing/Multi_FixTransform.py; the paper leaves it open)
    strong_pool: Pool = "code"  # of 14 operations: "paper" has Invert where "code" does nothing
    strong_picks: int = 5  # operations drawn, one after another; section 3.3; `--aug_times`
    strong_p: float = 0.5  # probability that a drawn one is done; section 3.3; data_processing/RandAugment.py

    def __post_init__(self) -> None:
        moco_v2.Config.__post_init__(self)
        choices = {"variant": Variant, "bank": Bank, "strong_loss": StrongLoss, "strong_pool": Pool}
        for field, literal in choices.items():
            require(getattr(self, field) in get_args(literal), field, f"one of {', '.join(get_args(literal))}")
        for field in ("pick_weak", "pick_strong"):
            places = getattr(self, field) or ()
            known = set(places) <= set(range(len(CROPS))) and len(set(places)) == len(places)
            require(known, field, f"different places from 0 to {len(CROPS) - 1}")
        require(self.pick_weak != (), "pick_weak", "at least one place: a weak query trains the encoder")
        require(self.strong_weight >= 0, "strong_weight", "at least 0")
        require(self.strong_temperature > 0, "strong_temperature", "above 0")
        require(self.strong_picks >= 1, "strong_picks", "at least 1")
        require_probability(self.strong_p, "strong_p")

    def picks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the places in CROPS of the weak and of the strong queries."""
        weak, strong = _PICKS[self.variant]
        return (
            weak if self.pick_weak is None else self.pick_weak,
            strong if self.pick_strong is None else self.pick_strong,
        )


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the key's crop, then the weak queries' crops, then the strong ones'; sizes are in proportion to `size`."""
    weak, strong = config.picks()
    return (
        config.view(size),
        *(_crop(config, size, place=place) for place in weak),
        *(
            replace(
                _crop(config, size, place=place),
                strong=config.strong_pool,
                strong_picks=config.strong_picks,
                strong_p=config.strong_p,
            )
            for place in strong
        ),
    )


def _crop(config: Config, size: int, *, place: int) -> View:
    pixels, share = CROPS[place]
    low, high = (round(share * bound, 3) for bound in config.crop_scale)
    return replace(config.view(max(1, round(size * pixels / CROPS[0][0]))), crop_scale=(low, high))


class Method(moco_v2.Method):
    """Momentum contrast with several queries, weak and strong; encoders, queue and their updates are MoCo-v2's."""

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone], facts: Facts) -> None:
        """Start from a new backbone, its copy, and a queue of random keys, all from torch's global generator."""
        super().__init__(config, new_backbone, facts)
        self.config: Config = config

    @classmethod
    def coupling(cls, config: Config) -> str:
        """Return why a batch cannot come in parts, where its keys are in the bank."""
        return "with bank: batch, the keys of a batch are each other's negatives" if config.bank == "batch" else ""

    def forward(self, batch: Batch) -> Step:
        """Return the weak queries' contrastive losses plus the strong ones' weighted loss, summed; and the key.

        Source: eqs. (1), (4) and algorithm 1 of arXiv:2104.07713; code, model/CLSA.py and training/train.py.
        """
        key_NCHW, *images = batch.views
        queries = [embed(self.backbone, self.head, each_NCHW) for each_NCHW in images]
        key_ND = self.slow(key_NCHW, view=0)
        cosines, place_N = self._cosines(queries, key_ND)
        count = len(self.config.picks()[0])
        weak, strong = cosines[:count], cosines[count:]
        contrastive = self._contrastive(weak, place_N)
        parts = [("contrastive", contrastive)]
        if strong:
            parts.append(("strong", self._strong(weak, strong, place_N)))
        loss = contrastive + sum(self.config.strong_weight * part for _, part in parts[1:])
        watched = tuple((name, part.detach()) for name, part in parts)
        return Step(loss=loss, keys=(key_ND,), watch=(*moco_v2.watch(queries[0], (key_ND,)), *watched))

    def _cosines(self, queries: Sequence[Tensor], key_ND: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return each query's cosines [N, K] with the bank, and the place [N] of each image's own key in it."""
        queue_KD, count = self.queue.keys_KD, len(key_ND)
        if self.config.bank == "batch":
            bank_KD = torch.cat([distributed.gather(key_ND), queue_KD])
            place_N = torch.arange(count, device=key_ND.device) + distributed.rank() * count
            return [query_ND @ bank_KD.T for query_ND in queries], place_N
        own = [(query_ND * key_ND).sum(dim=1, keepdim=True) for query_ND in queries]
        queued = [query_ND @ queue_KD.T for query_ND in queries]
        joined = [torch.cat(parts, dim=1) for parts in zip(own, queued, strict=True)]
        return joined, torch.zeros(count, dtype=torch.int64, device=key_ND.device)

    def _contrastive(self, cosines: Sequence[Tensor], place_N: Tensor) -> Tensor:
        scored = [functional.cross_entropy(each_NK / self.config.temperature, place_N) for each_NK in cosines]
        return torch.stack(scored).sum()

    def _strong(self, weak: Sequence[Tensor], strong: Sequence[Tensor], place_N: Tensor) -> Tensor:
        """Return the loss of the strong queries, summed over them, and over the weak ones where it is DDM."""
        if self.config.strong_loss == "contrastive":
            return self._contrastive(strong, place_N)
        temperature = self.config.strong_temperature
        targets = [each_NK.detach() / temperature for each_NK in weak]
        return torch.stack([ddm(each_NK / temperature, targets) for each_NK in strong]).sum()
