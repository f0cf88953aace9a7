"""From images and counters to batches of views.

Every random number comes from (seed, epoch, image index, view), so a batch is the same whatever the number of loading
processes, and an epoch continued in its middle (the tail of its plan) gives what the undisturbed one would have given.

Images of one size (`Stack`) live on the device as uint8 and a batch is cropped in two matrix products. Images that are
decoded when asked for are read and cropped in `workers` processes, rounded to uint8, and only colored on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leoclr.augment.color import COLOR_DRAWS, apply_color, blur_radius, draw_color, join_colors, normalize
from leoclr.augment.crop import BOX_DRAWS, draw_boxes, resize_box, resize_boxes
from leoclr.augment.draw import uniform
from leoclr.augment.strong import PICK_DRAWS, apply_strong, draw_strong
from leoclr.augment.views import View
from leoclr.data.contract import Images, Stack

Indices = NDArray[np.int64]
Group = tuple[tuple[View, Tensor], ...]  # views that are made together, each with its random numbers [N, U]
Channels = tuple[float, float, float]  # one number for red, green and blue, of images scaled to 0..1

# Streams of `draw.uniform`; what else draws by image takes another. The first holds the numbers that every view reads,
# view after view. View v has a stream of its own, _OWN_STREAM + v, for those that few views read.
_STREAM, _OWN_STREAM = 0, 2**16
# Random numbers of one view of one image: its box, its flip, its colors, its strong operations. Its own stream begins
# with the last one of its colors, solarize or not.
_FLIP = BOX_DRAWS
_COLOR = slice(BOX_DRAWS + 1, BOX_DRAWS + 1 + COLOR_DRAWS)
_STRONG = slice(_COLOR.stop, None)
_DRAWS = _COLOR.stop - 1


def epoch_plan(
    size: int, *, batch: int, seed: int, epoch: int, rank: int = 0, world: int = 1, drop_last: bool = True
) -> list[Indices]:
    """Return the images of each step of `epoch`, as indices below `size`: this rank's share of each global batch.

    One permutation of all images, from (seed, epoch) alone, is cut into global batches of `batch`; rank r of `world`
    gets the r-th contiguous part of each. Without `drop_last` the shares of a last, smaller batch differ by at most one
    image and may be empty. To continue an epoch, pass the tail of its plan to `ViewLoader.batches`.

    Raises: ValueError when `batch` is no multiple of `world`, or when not one batch comes out.

    >>> [len(indices) for indices in epoch_plan(10, batch=4, seed=0, epoch=0, drop_last=False)]
    [4, 4, 2]
    """
    if batch < 1 or batch % world:
        raise ValueError(f"batch: {batch} must be a positive multiple of the number of workers ({world})")
    stop = size - size % batch if drop_last else size
    if stop < 1:
        raise ValueError(f"batch: {size} images do not fill one batch of {batch}")
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch)))).permutation(size)
    batches = (order[start : min(start + batch, stop)] for start in range(0, stop, batch))
    return [part[rank * len(part) // world : (rank + 1) * len(part) // world] for part in batches]


@dataclass(slots=True)
class ViewLoader:
    """Make views of images in batches, ready for a network.

    Images are scaled to 0..1, augmented in float32 and normalized by `mean` and `std`. Gray images (three equal
    channels) in a `Stack` are noticed and worked on as one channel: the same numbers, a third of the work.
    """

    images: Images
    views: Sequence[View]
    _: KW_ONLY
    mean: Channels
    std: Channels
    seed: int
    device: torch.device | str
    workers: int = 0  # processes that read and crop; a `Stack` needs none and starts none
    _stack_NHWC: Tensor | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.images, Stack):
            self._stack_NHWC = torch.tensor(_without_equal_channels(self.images.images_NHWC), device=self.device)

    def batches(self, epoch: int, plan: Sequence[Indices]) -> Iterator[tuple[Tensor, ...]]:
        """Yield for each index array of `plan` one normalized float32 [N, 3, size, size] per view, on the device.

        Raises: DataError naming the file when an image cannot be decoded.
        """
        for indices, crops in zip(plan, self._crops(epoch, plan), strict=True):
            draws = _draw(self.seed, epoch, indices, self.views)
            groups = zip(_groups(self.views, draws), crops, strict=True)
            yield tuple(chain.from_iterable(self._color(group, crop_GCHW) for group, crop_GCHW in groups))

    def _crops(self, epoch: int, plan: Sequence[Indices]) -> Iterator[tuple[Tensor, ...]]:
        if self._stack_NHWC is not None:
            return (self._crop_stack(epoch, indices) for indices in plan)
        crops = _LazyCrops(self.images, tuple(self.views), self.seed, epoch)
        if self.workers == 0:
            return (crops[indices] for indices in plan)
        pin = torch.device(self.device).type == "cuda"
        # Its own generator: a DataLoader without one draws from torch's global generator, which is not ours to move.
        generator = torch.Generator()
        return iter(
            DataLoader(
                crops,
                batch_size=None,
                sampler=plan,  # each "sample" is a whole batch: one draw and one message a batch
                num_workers=self.workers,
                pin_memory=pin,
                generator=generator,
            )
        )

    def _crop_stack(self, epoch: int, indices: Indices) -> tuple[Tensor, ...]:
        assert self._stack_NHWC is not None
        index_N = torch.from_numpy(indices).to(self._stack_NHWC.device, non_blocking=True)
        images_NHWC = self._stack_NHWC[index_N]
        heights_N, widths_N = (torch.full((len(indices),), side) for side in images_NHWC.shape[1:3])
        crops = []
        for group in _groups(self.views, _draw(self.seed, epoch, indices, self.views)):
            boxes = [draw_boxes(view, draws_NU[:, :BOX_DRAWS], heights_N, widths_N) for view, draws_NU in group]
            flips = [draws_NU[:, _FLIP] < view.flip_p for view, draws_NU in group]
            images_GHWC = images_NHWC.repeat(len(group), 1, 1, 1)
            crops.append(resize_boxes(images_GHWC, torch.cat(boxes), group[0][0].size, flip_N=torch.cat(flips)))
        return tuple(crops)

    def _color(self, group: Group, crop_GCHW: Tensor) -> tuple[Tensor, ...]:
        images_GCHW = crop_GCHW.to(self.device, torch.float32, non_blocking=True).div_(255)
        color = join_colors([draw_color(view, draws_NU[:, _COLOR]) for view, draws_NU in group])
        images_GCHW = apply_color(images_GCHW, color, radius=blur_radius(group[0][0]))
        if any(view.strong != "none" for view, _ in group):
            pairs = zip(group, images_GCHW.chunk(len(group)), strict=True)
            images_GCHW = torch.cat([_strengthen(view, draws_NU, own_NCHW) for (view, draws_NU), own_NCHW in pairs])
        return normalize(images_GCHW, self.mean, self.std).chunk(len(group))


def _strengthen(view: View, draws_NU: Tensor, images_NCHW: Tensor) -> Tensor:
    if view.strong == "none":
        return images_NCHW
    return apply_strong(images_NCHW, draw_strong(view, draws_NU[:, _STRONG]))


def _draw(seed: int, epoch: int, indices: Indices, views: Sequence[View]) -> tuple[Tensor, ...]:
    """Return the random numbers [N, U] of each view: one draw for all, as many numbers cost little more than few."""
    indices_N = torch.from_numpy(indices)
    draws_NU = uniform(seed, epoch, indices_N, stream=_STREAM, count=len(views) * _DRAWS)
    parts = enumerate(zip(views, draws_NU.chunk(len(views), dim=1), strict=True))
    return tuple(
        torch.cat((part_NU, _draw_own(view, seed, epoch, indices_N, stream=_OWN_STREAM + place)), dim=1)
        for place, (view, part_NU) in parts
    )


def _draw_own(view: View, seed: int, epoch: int, indices_N: Tensor, *, stream: int) -> Tensor:
    """Return the numbers for solarization and strong operations [N, U]; a view without both reads none: zeros."""
    picks = view.strong_picks if view.strong != "none" else 0
    if picks == 0 and view.solarize_p == 0:
        return torch.zeros(len(indices_N), 1)
    return uniform(seed, epoch, indices_N, stream=stream, count=1 + picks * PICK_DRAWS)


def _groups(views: Sequence[View], draws: Sequence[Tensor]) -> list[Group]:
    """Return the views with their random numbers, neighbors that one batch can hold together.

    On small images most of the time goes into starting operations, and three views in one batch start a third as many.
    """
    pairs = zip(views, draws, strict=True)
    return [tuple(group) for _, group in groupby(pairs, key=lambda pair: (pair[0].size, blur_radius(pair[0])))]


def _without_equal_channels(images_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first channel alone when all three are equal in every image, else the images as they are."""
    first_NHW1 = images_NHWC[..., :1]
    return first_NHW1 if bool((images_NHWC == first_NHW1).all()) else images_NHWC


@dataclass(frozen=True, slots=True)
class _LazyCrops(Dataset[tuple[Tensor, ...]]):
    """Read images and cut their views; runs in the loading processes, so it is small to send."""

    images: Images
    views: tuple[View, ...]
    seed: int
    epoch: int

    def __getitem__(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return uint8 [G, 3, size, size] for each group of views, G images: view after view."""
        read = [torch.from_numpy(self.images.read(int(index))) for index in indices]
        heights_N = torch.tensor([image_HWC.shape[0] for image_HWC in read])
        widths_N = torch.tensor([image_HWC.shape[1] for image_HWC in read])
        crops = []
        for group in _groups(self.views, _draw(self.seed, self.epoch, indices, self.views)):
            cut: list[Tensor] = []
            for view, draws_NU in group:
                boxes_N4 = draw_boxes(view, draws_NU[:, :BOX_DRAWS], heights_N, widths_N)
                flips = (draws_NU[:, _FLIP] < view.flip_p).tolist()
                for image_HWC, box_4, flip in zip(read, boxes_N4, flips, strict=True):
                    crop_CHW = resize_box(image_HWC, box_4, view.size)
                    cut.append(crop_CHW.flip(-1) if flip else crop_CHW)
            crops.append(torch.stack(cut))
        return tuple(crops)
