"""CLSA's strong augmentations: some of 14 operations one after another, each image with its own.

The official code runs them with PIL on 8-bit images, and several are defined on the 256 levels. So an image that any
operation was drawn for is rounded to levels first, and every operation maps levels to levels with PIL's arithmetic:
on the same parameters the result is PIL's, to the bit. Pixels that a geometric operation brings in from outside are
black and resampling is nearest neighbor, PIL's defaults, which the code leaves as they are.

Source: maple-research-lab/CLSA, data_processing/RandAugment.py (commit 37df76c), class RandAugment with
fixmatch_augment_pool; the paper is arXiv:2104.07713, "Stronger Augmentations".

Axes: N images, M images that an operation was drawn for, P picks, U random numbers of an image, L the 256 levels; C, H,
W as everywhere. Levels are whole numbers in float32. One channel stands for three equal ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from leoclr.augment.views import View

PICK_DRAWS = 4
"""Random numbers that one pick takes: which operation, applied or not, how much, in which direction."""

SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE, SOLARIZE, POSTERIZE = range(7)
BRIGHTNESS, CONTRAST, COLOR, SHARPNESS, AUTO_CONTRAST, EQUALIZE, INVERT = range(7, 14)
NOTHING = -1

# What an operation takes is (magnitude / 10) * most + bias. Values of the code's fixmatch_augment_pool; of the paper's
# table only the shear's -.3..0.3 is in its text, which is the same, so both pools share them. The magnitude is
# randint(1, 10) there: 1, 2 .. 9. "code" does that; "paper" draws it evenly from 0..10, which fills the ranges.
_MOST = torch.tensor([0.3, 0.3, 0.3, 0.3, 30, 256, 4, 0.9, 0.9, 0.9, 0.9, 0, 0, 0], dtype=torch.float64)
_BIAS = torch.tensor([0, 0, 0, 0, 0, 0, 4, 0.05, 0.05, 0.05, 0.05, 0, 0, 0], dtype=torch.float64)

_LUMA = (19595, 38470, 7471)  # 65536ths; python-pillow/Pillow, src/libImaging/Convert.c, L24
_SMOOTH_CENTER, _SMOOTH_SUM = 5, 13  # python-pillow/Pillow, src/PIL/ImageFilter.py, SMOOTH


@dataclass(frozen=True, slots=True)
class Strong:
    """What was drawn for a batch of one view; kept on the CPU."""

    op_NP: Tensor  # one of the operations above, or NOTHING
    value_NP: Tensor  # float64: shear; share of the side; degrees; 256 - threshold; bits kept; factor


def draw_strong(view: View, uniforms_NU: Tensor) -> Strong:
    """Return the picks of `view` that random numbers [N, strong_picks * PICK_DRAWS] in [0, 1) stand for.

    Each pick is one of the pool's 14 operations, drawn with replacement (random.choices in the code), applied with
    probability `strong_p`. Shear, shift and rotation go in either direction with equal chance.
    """
    pick_NP, apply_NP, amount_NP, turn_NP = uniforms_NU.double().unflatten(1, (-1, PICK_DRAWS)).unbind(2)
    op_NP = (pick_NP * 14).long()
    magnitude_NP = 1 + (9 * amount_NP).floor() if view.strong == "code" else 10 * amount_NP
    value_NP = magnitude_NP * _MOST[op_NP] / 10
    # Levels and bits are whole, rounded down before the bias: _int_parameter there. Its degrees are whole anyway.
    value_NP = torch.where((op_NP == SOLARIZE) | (op_NP == POSTERIZE), value_NP.floor(), value_NP) + _BIAS[op_NP]
    value_NP = torch.where((op_NP <= ROTATE) & (turn_NP < 0.5), -value_NP, value_NP)
    identity = INVERT if view.strong == "code" else NOTHING  # the code has Identity where the paper has Invert
    applied_NP = (apply_NP < view.strong_p) & (op_NP != identity)
    return Strong(op_NP=torch.where(applied_NP, op_NP, NOTHING), value_NP=value_NP)


def apply_strong(images_NCHW: Tensor, strong: Strong) -> Tensor:
    """Return square images in 0..1 with their picks applied in order; the input is left as it is.

    Images without a pick stay as they are; the others come out as whole levels / 255.
    """
    picked_M = (strong.op_NP != NOTHING).any(1).nonzero()[:, 0]
    index_M = picked_M.to(images_NCHW.device, non_blocking=True)
    levels_MCHW = (images_NCHW[index_M] * 255).round_()
    for op_M, value_M in zip(strong.op_NP[picked_M].T, strong.value_NP[picked_M].T, strict=True):
        for op in op_M.unique().tolist():
            if op != NOTHING:
                chosen = (op_M == op).nonzero()[:, 0]
                on_device = chosen.to(images_NCHW.device, non_blocking=True)
                changed = apply_one(op, levels_MCHW[on_device], value_M[chosen])
                levels_MCHW.index_copy_(0, on_device, changed)
    return images_NCHW.index_copy(0, index_M, levels_MCHW.div_(255))


def apply_one(op: int, levels_NCHW: Tensor, value_N: Tensor) -> Tensor:
    """Return whole levels 0..255 changed by operation `op`, each image by its own value (see `Strong`)."""
    if op <= ROTATE:
        return _affine(levels_NCHW, _matrix(op, value_N, levels_NCHW.shape[-1]))
    value_N111 = value_N.to(levels_NCHW.device, torch.float32, non_blocking=True)[:, None, None, None]
    return _OPERATIONS[op](levels_NCHW, value_N111)


def _matrix(op: int, value_N: Tensor, side: int) -> Tensor:
    """Return float64 [N, 6]: where an output pixel (x, y) is read, (a x + b y + c, d x + e y + f); see PIL's AFFINE."""
    a, b, c, d, e, f = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64).expand(len(value_N), 6).T.clone()
    if op == SHEAR_X:
        b = value_N
    elif op == SHEAR_Y:
        d = value_N
    elif op == TRANSLATE_X:
        c = (value_N * side).trunc()  # whole pixels
    elif op == TRANSLATE_Y:
        f = (value_N * side).trunc()
    else:  # counterclockwise around the center; python-pillow/Pillow, src/PIL/Image.py, rotate
        turn_N, middle = -torch.deg2rad(value_N), side / 2
        a, b, d, e = turn_N.cos(), turn_N.sin(), -turn_N.sin(), turn_N.cos()
        c, f = middle - (a + b) * middle, middle - (d + e) * middle
    return torch.stack((a, b, c, d, e, f), dim=1)


def _affine(images_NCHW: Tensor, matrix_N6: Tensor) -> Tensor:
    """Return the images read at the pixels nearest to where `matrix_N6` points, black where that is outside.

    Source: python-pillow/Pillow, src/libImaging/Geometry.c, affine_fixed: places in 65536ths of a pixel.
    """
    height, width = images_NCHW.shape[-2:]
    a, b, c, d, e, f = matrix_N6.T
    c, f = c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5  # from corners to centers of pixels
    fixed = torch.stack((a, b, c, d, e, f)).mul(65536).add(0.5).floor().long()
    fixed = fixed.to(images_NCHW.device, non_blocking=True)
    a, b, c, d, e, f = fixed[:, :, None, None]
    x_W, y_H1 = (torch.arange(length, device=images_NCHW.device) for length in (width, height))
    y_H1 = y_H1[:, None]
    column_NHW, row_NHW = (a * x_W + b * y_H1 + c) >> 16, (d * x_W + e * y_H1 + f) >> 16
    inside_NHW = (column_NHW >= 0) & (column_NHW < width) & (row_NHW >= 0) & (row_NHW < height)
    place_NP = torch.where(inside_NHW, row_NHW * width + column_NHW, 0).flatten(1)
    place_NCP = place_NP[:, None].expand(-1, images_NCHW.shape[1], -1)
    read_NCHW = images_NCHW.flatten(2).gather(2, place_NCP).view_as(images_NCHW)
    moved_NCHW: Tensor = torch.where(inside_NHW[:, None], read_NCHW, 0)
    return moved_NCHW


def _solarize(levels_NCHW: Tensor, amount_N111: Tensor) -> Tensor:
    return torch.where(levels_NCHW < 256 - amount_N111, levels_NCHW, 255 - levels_NCHW)


def _posterize(levels_NCHW: Tensor, bits_N111: Tensor) -> Tensor:
    step_N111 = torch.exp2(8 - bits_N111)
    return (levels_NCHW / step_N111).floor_() * step_N111


def _brightness(levels_NCHW: Tensor, factor_N111: Tensor) -> Tensor:
    return _blend(torch.zeros_like(levels_NCHW), levels_NCHW, factor_N111)


def _contrast(levels_NCHW: Tensor, factor_N111: Tensor) -> Tensor:
    total_N111 = _gray(levels_NCHW).long().sum((1, 2, 3), keepdim=True)
    pixels = levels_NCHW.shape[-2] * levels_NCHW.shape[-1]
    mean_N111 = (2 * total_N111 + pixels) // (2 * pixels)  # whole, halves up; in integers, so exact on any device
    return _blend(mean_N111.to(torch.float32), levels_NCHW, factor_N111)


def _color(levels_NCHW: Tensor, factor_N111: Tensor) -> Tensor:
    return _blend(_gray(levels_NCHW), levels_NCHW, factor_N111)


def _sharpness(levels_NCHW: Tensor, factor_N111: Tensor) -> Tensor:
    smooth_NCHW = levels_NCHW.clone()  # a pixel at the border has no nine neighbors and stays
    if min(levels_NCHW.shape[-2:]) > 2:
        inner_NCHW = levels_NCHW[..., 1:-1, 1:-1]
        nine_NCHW = functional.avg_pool2d(levels_NCHW, 3, stride=1, divisor_override=1)
        total_NCHW = nine_NCHW + (_SMOOTH_CENTER - 1) * inner_NCHW
        smooth_NCHW[..., 1:-1, 1:-1] = (total_NCHW / _SMOOTH_SUM + 0.5).floor_()
    return _blend(smooth_NCHW, levels_NCHW, factor_N111)


def _auto_contrast(levels_NCHW: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to 0..255. Source: python-pillow/Pillow, src/PIL/ImageOps.py, autocontrast."""
    low_NC1, high_NC1 = (bound[..., None].double() for bound in levels_NCHW.flatten(2).aminmax(dim=2))
    level_L = torch.arange(256, dtype=torch.float64, device=levels_NCHW.device)
    # Not 255 / tensor: torch multiplies by the reciprocal, and a whole result may come out below itself.
    scale_NC1 = torch.full_like(low_NC1, 255) / (high_NC1 - low_NC1).clamp(min=1)
    table_NCL = (level_L * scale_NC1 - low_NC1 * scale_NC1).floor_().clamp_(0, 255)
    return _look_up(levels_NCHW, torch.where(high_NC1 > low_NC1, table_NCL, level_L))


def _equalize(levels_NCHW: Tensor, _: Tensor) -> Tensor:
    """Even out each channel's histogram. Source: python-pillow/Pillow, src/PIL/ImageOps.py, equalize."""
    level_NCP = levels_NCHW.flatten(2).long()
    count_NCL = level_NCP.new_zeros(*level_NCP.shape[:2], 256).scatter_add_(2, level_NCP, torch.ones_like(level_NCP))
    last_NC1 = count_NCL.gather(2, level_NCP.amax(2, keepdim=True))
    step_NC1 = (level_NCP.shape[2] - last_NC1) // 255
    below_NCL = count_NCL.cumsum(2) - count_NCL
    table_NCL = ((step_NC1 // 2 + below_NCL) // step_NC1.clamp(min=1)).clamp_(max=255)
    level_L = torch.arange(256, device=levels_NCHW.device)
    return _look_up(levels_NCHW, torch.where(step_NC1 > 0, table_NCL, level_L))


def _invert(levels_NCHW: Tensor, _: Tensor) -> Tensor:
    return 255 - levels_NCHW


def _look_up(levels_NCHW: Tensor, table_NCL: Tensor) -> Tensor:
    place_NCP = levels_NCHW.flatten(2).long()
    return table_NCL.to(torch.float32).gather(2, place_NCP).view_as(levels_NCHW)


def _gray(levels_NCHW: Tensor) -> Tensor:
    """Return the luma [N, 1, H, W], whole levels; every sum is below 2**24, so float32 is exact."""
    if levels_NCHW.shape[1] == 1:
        return levels_NCHW  # the weights add up to one
    red, green, blue = levels_NCHW.chunk(3, dim=1)
    return ((red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2] + 32768) / 65536).floor_()


def _blend(start_NCHW: Tensor, end_NCHW: Tensor, factor_N111: Tensor) -> Tensor:
    """Return start + factor * (end - start), rounded down. Source: python-pillow/Pillow, src/libImaging/Blend.c."""
    return (start_NCHW + factor_N111 * (end_NCHW - start_NCHW)).floor_()


_OPERATIONS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    SOLARIZE: _solarize,
    POSTERIZE: _posterize,
    BRIGHTNESS: _brightness,
    CONTRAST: _contrast,
    COLOR: _color,
    SHARPNESS: _sharpness,
    AUTO_CONTRAST: _auto_contrast,
    EQUALIZE: _equalize,
    INVERT: _invert,
}
