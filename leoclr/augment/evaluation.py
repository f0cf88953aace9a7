"""Test images as a protocol wants them: resized, cut, normalized.

Axes: N images, C channels, H rows, W columns, U random numbers of an image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from leoclr.augment.color import Channels, normalize
from leoclr.augment.crop import BOX_DRAWS, draw_boxes
from leoclr.augment.draw import uniform
from leoclr.augment.groups import Indices
from leoclr.augment.reading import Readers, Tensors, parts
from leoclr.augment.views import TestView, View
from leoclr.data.contract import Images, Stack
from leoclr.sending import sent

_STREAM = 1  # of `draw.uniform`; the loader has others


def evaluation_batches(
    images: Images,
    plan: Sequence[Indices],
    view: TestView,
    *,
    mean: Channels,
    std: Channels,
    device: torch.device | str,
    workers: int = 0,
) -> Iterator[Tensor]:
    """Yield for each index array of `plan` its test views, normalized float32 [N, 3, size, size] on `device`.

    Resized with antialiasing, then cut, with torchvision's rounding of sides and offsets. Images of a `Stack` stay
    float between the steps; others are rounded to uint8 after each, as PIL does, and read and cut in `workers`
    processes. Random crops are a function of (view.crop_seed, index), so they are the same in every batch, on every
    device and for every model.

    Raises: DataError naming the file when an image cannot be decoded, or when a loading process dies.
    """
    if isinstance(images, Stack):
        for indices in plan:
            yield normalize(_stack_views(images, view, indices, device=device) / 255, mean, std)
        return
    pin = torch.device(device).type == "cuda"
    readers = Readers(functools.partial(_read_views, images, view), workers, pin=pin)
    cut = [parts(indices) for indices in plan]
    made = readers.results([part for batch in cut for part in batch])
    for batch in cut:
        # Bytes cross to the device, and each part of a batch while the next one is made.
        images_NHWC = torch.cat([sent(next(made)[0], device) for _ in batch])
        views_NCHW = images_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        yield normalize(views_NCHW.div_(255), mean, std)


def evaluation_views(
    images: Images,
    indices: Indices,
    view: TestView,
    *,
    mean: Channels,
    std: Channels,
    device: torch.device | str,
) -> Tensor:
    """Return the test views of `indices`: the one batch of `evaluation_batches`."""
    return next(evaluation_batches(images, [indices], view, mean=mean, std=std, device=device))


def _stack_views(images: Stack, view: TestView, indices: Indices, *, device: torch.device | str) -> Tensor:
    stack_NCHW = sent(torch.from_numpy(images.images_NHWC[indices]), device).permute(0, 3, 1, 2)
    return _cut(_resize(stack_NCHW.float(), view), view, _draw(view, indices))


def _read_views(images: Images, view: TestView, indices: Indices) -> Tensors:
    """Return the views of images that are read as one uint8 [N, size, size, 3]."""
    views_NHWC = torch.empty((len(indices), view.size, view.size, 3), dtype=torch.uint8)
    for view_HWC, index, draws_U in zip(views_NHWC, indices, _draw(view, indices), strict=True):
        image_1CHW = torch.from_numpy(images.read(int(index))).permute(2, 0, 1)[None]
        view_HWC.copy_(_cut(_resize(image_1CHW, view), view, draws_U[None])[0].permute(1, 2, 0))
    return (views_NHWC,)


def _draw(view: TestView, indices: Indices) -> Tensor:
    return uniform(view.crop_seed, 0, torch.from_numpy(indices), stream=_STREAM, count=BOX_DRAWS)


def _resize(images_NCHW: Tensor, view: TestView) -> Tensor:
    if not view.keep_ratio:
        return _interpolate(images_NCHW, (view.resize, view.resize), view)
    height, width = images_NCHW.shape[-2:]
    short = min(height, width)
    # The longer side is rounded down: torchvision's Resize.
    return _interpolate(images_NCHW, (int(view.resize * height / short), int(view.resize * width / short)), view)


def _interpolate(images_NCHW: Tensor, size: tuple[int, int], view: TestView) -> Tensor:
    resized_NCHW = functional.interpolate(images_NCHW, size, mode=view.interpolation, antialias=True)
    # The cubic filter overshoots: floats are cut to the range of levels, as uint8 images are.
    return resized_NCHW if view.interpolation == "bilinear" else resized_NCHW.clamp_(0, 255)


def _cut(images_NCHW: Tensor, view: TestView, draws_NU: Tensor) -> Tensor:
    height, width = images_NCHW.shape[-2:]
    if view.crop == "center":  # offsets are rounded half to even: torchvision's CenterCrop
        top, left = round((height - view.size) / 2), round((width - view.size) / 2)
        return images_NCHW[..., top : top + view.size, left : left + view.size]
    boxes_N4 = _boxes(view, draws_NU, height, width).tolist()
    pairs = zip(images_NCHW, boxes_N4, strict=True)
    cut = [image_CHW[None, :, top : top + high, left : left + wide] for image_CHW, (top, left, high, wide) in pairs]
    if view.crop == "random_resized":
        cut = [_interpolate(image_1CHW, (view.size, view.size), view) for image_1CHW in cut]
    return torch.cat(cut)


def _boxes(view: TestView, draws_NU: Tensor, height: int, width: int) -> Tensor:
    """Return a random box [N, 4] (top, left, height, width) for each row of numbers."""
    sides_N2 = torch.tensor([height, width]).expand(len(draws_NU), 2)
    if view.crop == "random_resized":
        return draw_boxes(View(size=view.size, crop_scale=view.crop_scale), draws_NU, *sides_N2.unbind(1))
    corners_N2 = (draws_NU[:, :2].double() * (sides_N2 - view.size + 1)).long()
    return torch.cat((corners_N2, torch.full_like(sides_N2, view.size)), dim=1)
