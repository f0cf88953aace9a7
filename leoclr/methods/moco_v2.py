"""MoCo-v2: each image's crop finds another crop of the same image among the keys of a queue.

Chen, Fan, Girshick, He 2020, arXiv:2003.04297, on He et al. 2020, arXiv:1911.05722. Where the papers leave a choice,
the code decides: https://github.com/facebookresearch/moco/tree/4397a04ed63a95c4a157f017a71883944003b615, below "moco".

N images of one worker's batch, D embedding values, K keys in the queue, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.backbones import Backbone
from leoclr.heads import Projection, embed, projection
from leoclr.losses import info_nce, spread
from leoclr.methods import contract
from leoclr.methods.contract import Step, require
from leoclr.momentum import SlowEncoder
from leoclr.queue import Queue

TRAINS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of MoCo-v2; the defaults are its ImageNet recipe, `--mlp --moco-t 0.2 --aug-plus`.

    Raises: ValueError naming the field whose value is out of range.
    """

    temperature: float = 0.2  # dimensionless, above 0; moco README, v2 command (v1: 0.07)
    momentum: float = 0.999  # of the slow encoder per step, 0..1; moco/builder.py
    queue_size: int = 65536  # keys; moco/builder.py. Smaller for small data: 4096 in moco's CIFAR-10 demo
    dim: int = 128  # values of an embedding; moco/builder.py
    head: Projection = "mlp"  # moco README, v2 command (v1: "linear")
    shuffle_bn: bool = True  # spread the key images over the workers; moco/builder.py. No effect with one worker

    # Augmentation of each crop: moco/main_moco.py, --aug-plus
    crop_scale: tuple[float, float] = (0.2, 1.0)  # share of the image's area
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height; default of torchvision's RandomResizedCrop
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8  # probability, as all that end in _p
    gray_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    flip_p: float = 0.5

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", "above 0")
        require(0 <= self.momentum <= 1, "momentum", "from 0 to 1")
        require(self.queue_size >= 1, "queue_size", "at least 1")
        require(self.dim >= 1, "dim", "at least 1")
        require(self.head in get_args(Projection), "head", f"one of {', '.join(get_args(Projection))}")
        require(_rises(self.crop_scale) and self.crop_scale[1] <= 1, "crop_scale", "two shares, 0 < low <= high <= 1")
        require(_rises(self.crop_ratio), "crop_ratio", "two ratios, 0 < low <= high")
        require(_rises(self.blur_sigma), "blur_sigma", "two sizes in pixels, 0 < low <= high")
        require(len(self.jitter) == 4 and min(self.jitter) >= 0, "jitter", "four strengths, each at least 0")
        require(self.jitter[3] <= 0.5, "jitter", "at most 0.5 for the hue, which is half a turn")
        for field in ("jitter_p", "gray_p", "blur_p", "flip_p"):
            require(0 <= getattr(self, field) <= 1, field, "a probability from 0 to 1")


def crop(config: Config, size: int) -> View:
    """Return the random crop of `size` pixels with the augmentations of `config`."""
    return View(
        size=size,
        crop_scale=config.crop_scale,
        crop_ratio=config.crop_ratio,
        jitter=config.jitter,
        jitter_p=config.jitter_p,
        gray_p=config.gray_p,
        blur_p=config.blur_p,
        blur_sigma=config.blur_sigma,
        flip_p=config.flip_p,
    )


def views(config: Config, size: int) -> tuple[View, ...]:
    """Return the query's crop and the key's crop, drawn alike."""
    return (crop(config, size), crop(config, size))


class Method(contract.Method):
    """Momentum contrast: a trained encoder makes queries, its slow copy makes keys, a queue holds earlier keys.

    `forward` leaves queue and slow parameters alone; in training mode it moves batch-norm statistics, the slow
    encoder's too (see `SlowEncoder`).
    """

    def __init__(self, config: Config, new_backbone: Callable[[], Backbone]) -> None:
        """Start from a new backbone, its copy, and a queue of random keys, all from torch's global generator."""
        super().__init__()
        self.config = config
        backbone = new_backbone()
        self.backbone = backbone
        self.head = projection(backbone.feature_dim, config.dim, kind=config.head)
        self.slow = SlowEncoder(backbone, self.head, momentum=config.momentum, shuffle_bn=config.shuffle_bn)
        self.queue = Queue(config.queue_size, config.dim)

    def forward(self, views: Sequence[Tensor]) -> Step:
        """Return the mean loss in nats of finding view 1's key by view 0's query, and that key.

        Source: eq. (1) of arXiv:1911.05722.
        """
        query_NCHW, key_NCHW = views
        query_ND = embed(self.backbone, self.head, query_NCHW)
        key_ND = self.slow(key_NCHW, view=0)
        loss = info_nce(query_ND, key_ND, self.queue.keys_KD, temperature=self.config.temperature)
        return Step(loss=loss, keys=(key_ND,), watch=watch(query_ND, (key_ND,)))

    def before_step(self, step: int, total: int) -> None:
        """Move the slow encoder towards the trained one.

        moco does so between the query's forward pass and the key's; the query does not depend on it.
        """
        self.slow.update(self.backbone, self.head, step=step)

    def update(self, step: Step) -> None:
        """Push the step's keys of all workers, in the order of `step.keys`, then of rank."""
        for key_ND in step.keys:
            self.queue.push(distributed.gather(key_ND))


def watch(query_ND: Tensor, keys: Sequence[Tensor]) -> tuple[tuple[str, Tensor], ...]:
    """Return what tells a healthy run: the mean cosine of positive pairs, and the spread of queries (0: collapsed)."""
    query_ND = query_ND.detach()
    cosines = [(query_ND * key_ND).sum(dim=1).mean() for key_ND in keys]
    return (("positive_similarity", sum(cosines[1:], cosines[0]) / len(cosines)), ("query_spread", spread(query_ND)))


def _rises(pair: tuple[float, float]) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1]
