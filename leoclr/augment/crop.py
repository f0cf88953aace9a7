"""Random resized crops: boxes drawn for a whole batch at once, and cut out of it in two matrix products.

Axes: N images, H rows, W columns, C channels, S side of a view, U random numbers of an image; a box of `boxes_N4` is
top, left, height, width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from leoclr.augment.views import View

_TRIES = 10  # torchvision/transforms/transforms.py, RandomResizedCrop.get_params
BOX_DRAWS = 2 * _TRIES + 2
"""Random numbers that one box takes: area and ratio of each try, then row and column."""


def draw_boxes(view: View, uniforms_NU: Tensor, heights_N: Tensor, widths_N: Tensor) -> Tensor:
    """Return one box per image, int64 [N, 4], distributed as torchvision's RandomResizedCrop draws them.

    `uniforms_NU` is [N, BOX_DRAWS] in [0, 1). Area share uniform in `view.crop_scale`, logarithm of the ratio uniform
    in that of `view.crop_ratio`, sides rounded; the first of ten tries that fits is placed uniformly, and an image that
    none fits gets the largest central box of an allowed ratio. A view without `crop_scale` takes the whole image.

    Source: torchvision/transforms/transforms.py, RandomResizedCrop.get_params.
    """
    zeros_N = torch.zeros_like(heights_N)
    if view.crop_scale is None:
        return torch.stack((zeros_N, zeros_N, heights_N, widths_N), dim=1)
    # float64 as Python's floats there: in float32 a side next to .5 would round the other way.
    areas, ratios = (uniforms_NU[:, start : 2 * _TRIES : 2].double() for start in (0, 1))
    (low, high), (narrow, wide) = view.crop_scale, view.crop_ratio
    area_NT = (heights_N * widths_N)[:, None] * (low + (high - low) * areas)
    ratio_NT = torch.exp(math.log(narrow) + (math.log(wide) - math.log(narrow)) * ratios)
    width_NT, height_NT = (area_NT * ratio_NT).sqrt().round().long(), (area_NT / ratio_NT).sqrt().round().long()
    fits_NT = (width_NT > 0) & (width_NT <= widths_N[:, None]) & (height_NT > 0) & (height_NT <= heights_N[:, None])
    first_N1 = fits_NT.to(torch.uint8).argmax(dim=1, keepdim=True)
    fits_N = fits_NT.any(dim=1)
    central_height_N, central_width_N = _central_sides(view.crop_ratio, heights_N, widths_N)
    height_N = torch.where(fits_N, height_NT.gather(1, first_N1)[:, 0], central_height_N)
    width_N = torch.where(fits_N, width_NT.gather(1, first_N1)[:, 0], central_width_N)
    room_N2 = torch.stack((heights_N - height_N, widths_N - width_N), dim=1)
    placed_N2 = (uniforms_NU[:, 2 * _TRIES : BOX_DRAWS].double() * (room_N2 + 1)).long()
    corner_N2 = torch.where(fits_N[:, None], placed_N2, room_N2 // 2)
    return torch.cat((corner_N2, height_N[:, None], width_N[:, None]), dim=1)


def resize_boxes(images_NHWC: Tensor, boxes_N4: Tensor, size: int, *, flip_N: Tensor | None = None) -> Tensor:
    """Return each image's box resized to float32 [N, C, size, size] in 0..255, on the device of `images_NHWC`.

    Antialiased bilinear, as `torch.nn.functional.interpolate(..., antialias=True)` on each crop; not rounded. Images
    where `flip_N` is true come out mirrored left to right.
    """
    count, height, width, channels = images_NHWC.shape
    # Made on the device: boxes are small to send, matrices are not.
    top_N, left_N, height_N, width_N = boxes_N4.to(images_NHWC.device, torch.float32, non_blocking=True).unbind(1)
    rows_NSH = _resize_weights(top_N, height_N, size, height)
    columns_NSW = _resize_weights(left_N, width_N, size, width, flip_N=flip_N)
    tall_NSX = torch.bmm(rows_NSH, images_NHWC.to(torch.float32).view(count, height, width * channels))
    tall_NCSW = tall_NSX.view(count, size, width, channels).permute(0, 3, 1, 2).reshape(count, channels * size, width)
    # The copy costs less than the slow path that a batched product takes for a transposed argument on a CPU.
    columns_NWS = columns_NSW.transpose(1, 2).contiguous()
    return torch.bmm(tall_NCSW, columns_NWS).view(count, channels, size, size)


def resize_box(image_HWC: Tensor, box: Sequence[int], *, out_HWC: Tensor) -> None:
    """Write one box of a uint8 image, resized, to the uint8 `out_HWC`; antialiased bilinear, PIL's to one level.

    `box` is top, left, height, width. It is `torch.nn.functional.interpolate(..., antialias=True)`, which cannot be
    told where to write, and would hand over another order of axes.
    """
    top, left, height, width = box
    crop_1CHW, out_1CHW = (
        pixels_HWC.permute(2, 0, 1)[None]
        for pixels_HWC in (image_HWC[top : top + height, left : left + width], out_HWC)
    )
    torch.ops.aten._upsample_bilinear2d_aa.out(crop_1CHW, out_HWC.shape[:2], False, out=out_1CHW)


def _central_sides(ratios: tuple[float, float], heights_N: Tensor, widths_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return height and width of the largest box with a ratio within `ratios`: the whole image where that has one."""
    narrow, wide = min(ratios), max(ratios)
    ratio_N = widths_N.double() / heights_N
    height_N = torch.where(ratio_N < narrow, (widths_N.double() / narrow).round().long(), heights_N)
    width_N = torch.where(ratio_N > wide, (heights_N.double() * wide).round().long(), widths_N)
    return height_N, width_N


def _resize_weights(
    start_N: Tensor, length_N: Tensor, size: int, pixels: int, *, flip_N: Tensor | None = None
) -> Tensor:
    """Return the matrices [N, size, pixels] that resize pixels start..start+length of a line to `size` pixels.

    A triangle around each output pixel's center, as wide as an output pixel (never narrower than an input one), cut at
    the ends of the crop; rows sum to 1.
    Source: aten/src/ATen/native/cpu/UpSampleKernel.cpp, HelperInterpLinear with antialias.
    """
    length_N11 = length_N[:, None, None]
    scale_N11 = length_N11 / size
    center_NS1 = scale_N11 * (torch.arange(size, device=start_N.device) + 0.5)[:, None]
    if flip_N is not None:  # the same centers from last to first
        flip_N11 = flip_N.to(start_N.device, non_blocking=True)[:, None, None]
        center_NS1 = torch.where(flip_N11, length_N11 - center_NS1, center_NS1)
    place_N1P = (torch.arange(pixels, device=start_N.device) + 0.5 - start_N[:, None])[:, None]
    weights_NSP = (place_N1P - center_NS1).abs_().div_(-scale_N11.clamp(min=1)).add_(1).clamp_(min=0)
    weights_NSP *= ((place_N1P > 0) & (place_N1P < length_N11)).to(torch.float32)
    return weights_NSP.div_(weights_NSP.sum(dim=2, keepdim=True))
