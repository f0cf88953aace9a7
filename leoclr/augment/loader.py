"""From images and counters to batches of views.

Every random number comes from (seed, epoch, image index, view), so a batch is the same whatever the number of loading
processes, and an epoch continued in its middle (the tail of its plan) gives what the undisturbed one would have given.

Images of one size (`Stack`) live on the device as uint8 and a batch is cropped in two matrix products. Images that are
decoded when asked for are read and cropped in `workers` processes, rounded to uint8, and only colored on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leoclr.augment.color import Channels
from leoclr.augment.crop import resize_box, resize_boxes
from leoclr.augment.groups import Indices, draw_groups
from leoclr.augment.reading import Readers, Tensors, parts
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View
from leoclr.compiling import Compile
from leoclr.data.contract import Images, Stack
from leoclr.sending import sent


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

    Loading processes start with the first pass and stay until the loader goes; a new pass ends the one before.
    """

    images: Images
    views: Sequence[View]
    _: KW_ONLY
    mean: Channels
    std: Channels
    seed: int
    device: torch.device | str
    workers: int = 0  # processes that read and crop; a `Stack` needs none and starts none
    compile: Compile = "auto"  # how views are colored, see `Renderer`: the same numbers within rounding
    _stack_NHWC: Tensor | None = field(init=False, default=None, repr=False)
    _readers: Readers[tuple[int, Indices]] = field(init=False, repr=False)
    _render: Renderer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.images, Stack):
            self._stack_NHWC = torch.tensor(_without_equal_channels(self.images.images_NHWC), device=self.device)
        else:
            work = functools.partial(read_crops, self.images, tuple(self.views), self.seed)
            self._readers = Readers(work, self.workers, pin=torch.device(self.device).type == "cuda")
        self._render = Renderer(self.mean, self.std, how=self.compile)

    def batches(self, epoch: int, plan: Sequence[Indices]) -> Iterator[tuple[Tensor, ...]]:
        """Yield for each index array of `plan` one normalized float32 [N, 3, size, size] per view, on the device.

        Raises: DataError naming the file when an image cannot be decoded, or when a loading process dies.
        """
        for indices, crops in zip(plan, self._crops(epoch, plan), strict=True):
            groups = draw_groups(self.views, seed=self.seed, epoch=epoch, indices=indices)
            pairs = zip(groups, crops, strict=True)
            flip = self._stack_NHWC is None
            yield tuple(chain.from_iterable(self._render(group, crop_GCHW, flip=flip) for group, crop_GCHW in pairs))

    def _crops(self, epoch: int, plan: Sequence[Indices]) -> Iterator[list[Tensor]]:
        """Yield for each index array one [G, C, size, size] per group, levels 0..255; a `Stack`'s are flipped."""
        if self._stack_NHWC is not None:
            yield from (self._crop_stack(epoch, indices) for indices in plan)
            return
        cut = [parts(indices) for indices in plan]
        made = self._readers.results([(epoch, part) for batch in cut for part in batch])
        for batch in cut:
            yield self._join([next(made) for _ in batch])

    def _join(self, made: Sequence[Tensors]) -> list[Tensor]:
        """Return the crops [V, n, H, W, C] of the parts of a batch as [G, C, H, W] of the batch, on the device."""
        groups = ([sent(part, self.device) for part in group] for group in zip(*made, strict=True))
        joined = (group[0] if len(group) == 1 else torch.cat(group, dim=1) for group in groups)
        return [crop_VNHWC.flatten(0, 1).permute(0, 3, 1, 2) for crop_VNHWC in joined]

    def _crop_stack(self, epoch: int, indices: Indices) -> list[Tensor]:
        assert self._stack_NHWC is not None
        index_N = sent(torch.from_numpy(indices), self._stack_NHWC.device)
        images_NHWC = self._stack_NHWC[index_N]
        sides = [torch.full((len(indices),), side) for side in images_NHWC.shape[1:3]]
        crops = []
        for group in draw_groups(self.views, seed=self.seed, epoch=epoch, indices=indices):
            images_GHWC = images_NHWC.repeat(len(group.views), 1, 1, 1)
            crops.append(resize_boxes(images_GHWC, group.boxes(*sides), group.size, flip_N=group.flips()))
        return crops


def read_crops(images: Images, views: tuple[View, ...], seed: int, item: tuple[int, Indices]) -> Tensors:
    """Return uint8 [V, N, size, size, 3] for each group of views of the images of an epoch: read, and cut."""
    epoch, indices = item
    read = [torch.from_numpy(images.read(int(index))) for index in indices]
    sides = [torch.tensor([image_HWC.shape[axis] for image_HWC in read], dtype=torch.int64) for axis in (0, 1)]
    crops = []
    for group in draw_groups(views, seed=seed, epoch=epoch, indices=indices):
        crop_VNHWC = torch.empty((len(group.views), len(read), group.size, group.size, 3), dtype=torch.uint8)
        boxes = group.boxes(*sides).tolist()
        for place, (crop_HWC, box) in enumerate(zip(crop_VNHWC.flatten(0, 1), boxes, strict=True)):
            resize_box(read[place % len(read)], box, out_HWC=crop_HWC)
        crops.append(crop_VNHWC)
    return tuple(crops)


def _without_equal_channels(images_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first channel alone when all three are equal in every image, else the images as they are."""
    first_NHW1 = images_NHWC[..., :1]
    return first_NHW1 if bool((images_NHWC == first_NHW1).all()) else images_NHWC
