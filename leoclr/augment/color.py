"""Color jitter, grayscale, blur, solarization and normalization of batches, with own parameters for each image.

Images are float32 in 0..1. The arithmetic is torchvision's for float tensors (torchvision/transforms/v2/functional,
_color.py and _misc.py), except that blur is a true Gaussian wide enough for any sigma that is drawn. Parameters are
drawn and kept on the CPU, so that which images an operation touches is known without waiting for the device, and sent
with `non_blocking`: without it CUDA first finishes all that it was given, a whole training step.

Axes: N images, C channels (3, or 1 for images whose three channels are equal), H rows, W columns, S side, U random
numbers of an image, J the four jitter operations.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leoclr.augment.views import View

Channels = tuple[float, float, float]  # one number for red, green and blue, of images scaled to 0..1

COLOR_DRAWS = 10
"""Random numbers that one image takes: jitter or not, four factors, their order, gray or not, blur or not, sigma, to
solarize or not."""

_LUMA = (0.2989, 0.587, 0.114)  # torchvision rgb_to_grayscale
_GRAY_LUMA = sum(_LUMA)  # the luma of a gray of 1 is .9999, and the one-channel path keeps to it
_CONTRAST, _SATURATION, _HUE = 1, 2, 3  # columns of factors_NJ; 0 is brightness
_ORDERS_24J = torch.tensor(list(itertools.permutations(range(4))))


_NEUTRAL_J = torch.tensor([1.0, 1.0, 1.0, 0.0])  # factors that leave an image as it is


@dataclass(frozen=True, slots=True)
class Color:
    """What was drawn for a batch of one view, or of several views one after another."""

    factors_NJ: Tensor  # brightness, contrast, saturation, hue; 1, 1, 1, 0 leave an image as it is
    order_NJ: Tensor  # of the four operations, numbered as the columns of factors_NJ
    gray_N: Tensor  # bool
    sigma_N: Tensor  # pixels; 0: not blurred
    threshold_N: Tensor  # values from it on are inverted; infinity: not solarized

    def part(self, part: slice) -> Color:
        """Return what was drawn for some of the images."""
        fields = (self.factors_NJ, self.order_NJ, self.gray_N, self.sigma_N, self.threshold_N)
        return Color(*(numbers_N[part] for numbers_N in fields))


def draw_color(view: View, uniforms_NU: Tensor) -> Color:
    """Return the color parameters of `view` that random numbers [N, COLOR_DRAWS] in [0, 1) stand for.

    Factors are uniform in max(0, 1 - strength)..1 + strength, the hue's in -strength..strength turns, the order uniform
    among all 24, sigma uniform in `view.blur_sigma`: torchvision's ColorJitter and MoCo's GaussianBlur.
    """
    jitter_N, *factors, order_N, gray_N, blur_N, sigma_N, solarize_N = uniforms_NU.unbind(1)
    strength_J = torch.tensor(view.jitter)
    low_J = torch.where(_NEUTRAL_J == 0, -strength_J, (_NEUTRAL_J - strength_J).clamp_(min=0))  # only hue goes below 0
    factors_NJ = low_J + (_NEUTRAL_J + strength_J - low_J) * torch.stack(factors, dim=1)
    low, high = view.blur_sigma
    return Color(
        factors_NJ=torch.where((jitter_N < view.jitter_p)[:, None], factors_NJ, _NEUTRAL_J),
        order_NJ=_ORDERS_24J[(order_N * len(_ORDERS_24J)).long()],
        gray_N=gray_N < view.gray_p,
        sigma_N=(low + (high - low) * sigma_N) * (blur_N < view.blur_p),
        threshold_N=torch.where(solarize_N < view.solarize_p, view.solarize_threshold, math.inf),
    )


def join_colors(colors: Sequence[Color]) -> Color:
    """Return the parameters of several views of a batch as those of one batch, view after view."""
    return Color(
        factors_NJ=torch.cat([color.factors_NJ for color in colors]),
        order_NJ=torch.cat([color.order_NJ for color in colors]),
        gray_N=torch.cat([color.gray_N for color in colors]),
        sigma_N=torch.cat([color.sigma_N for color in colors]),
        threshold_N=torch.cat([color.threshold_N for color in colors]),
    )


def blur_radius(view: View) -> int:
    """Return how many pixels on either side the blur of `view` reads: 6, so 13 taps, for MoCo's sigma up to 2."""
    return math.ceil(3 * view.blur_sigma[1])  # 99.7 % of the weight of the widest


def apply_color(images_NCHW: Tensor, color: Color, *, radius: int) -> Tensor:
    """Return the images jittered, grayed, blurred and solarized as `color` says; the input is left as it is.

    Only what was drawn for some image is computed. `radius` is the blur's, see `blur`.
    """
    device = images_NCHW.device
    if not torch.equal(color.factors_NJ, _NEUTRAL_J.expand_as(color.factors_NJ)):
        images_NCHW = jitter(images_NCHW, color.factors_NJ, color.order_NJ)
    if color.gray_N.any():
        gray_N111 = color.gray_N.to(device, non_blocking=True)[:, None, None, None]
        images_NCHW = torch.where(gray_N111, luma(images_NCHW), images_NCHW)
    if color.sigma_N.any():
        blurred_M = color.sigma_N.nonzero()[:, 0]
        index_M = blurred_M.to(device, non_blocking=True)
        blurred_MCHW = blur(images_NCHW[index_M], color.sigma_N[blurred_M], radius=radius)
        images_NCHW = images_NCHW.index_copy(0, index_M, blurred_MCHW)
    if color.threshold_N.isfinite().any():
        images_NCHW = solarize(images_NCHW, color.threshold_N)
    return images_NCHW


def jitter(images_NCHW: Tensor, factors_NJ: Tensor, order_NJ: Tensor) -> Tensor:
    """Return the images with brightness, contrast, saturation and hue adjusted in each image's own order.

    Every step but hue is a blend of the image with black, its mean luma or its luma, clamped to 0..1; so one
    expression does that step for the whole batch, whichever operation an image has its turn of.
    """
    images_NCHW = images_NCHW.clone()
    *parts, turns_NJ = color_steps(factors_NJ, order_NJ)
    parts_3NJ, device = torch.stack(parts), images_NCHW.device
    parts_3NJ111 = parts_3NJ.to(device, non_blocking=True)[..., None, None, None]
    colored = images_NCHW.shape[1] == 3  # hue leaves gray as it is
    for step in range(order_NJ.shape[1]):
        if (parts_3NJ[0, :, step] != 1).any():
            evenly = not parts_3NJ[1, :, step].any()
            _blend_(images_NCHW, *parts_3NJ111[:, :, step], evenly=evenly)
        if colored:
            turned_M = turns_NJ[:, step].nonzero()[:, 0]
            index_M = turned_M.to(device, non_blocking=True)
            turns_M = turns_NJ[turned_M, step].to(device, non_blocking=True)
            images_NCHW.index_copy_(0, index_M, shift_hue(images_NCHW[index_M], turns_M))
    return images_NCHW


def color_steps(factors_NJ: Tensor, order_NJ: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what each step of the jitter does to each image, in the image's own order: four of [N, J].

    An image becomes own part * itself + luma part * its luma + mean part * its mean luma, and its hue turns by so many
    circles. The parts add up to 1, but for brightness, whose rest is black; a step of the hue has an own part of 1.
    """
    step_NJ = factors_NJ.gather(1, order_NJ)
    rest_NJ = (1 - step_NJ) * (order_NJ != _HUE)
    luma_NJ, mean_NJ = rest_NJ * (order_NJ == _SATURATION), rest_NJ * (order_NJ == _CONTRAST)
    return 1 - rest_NJ, luma_NJ, mean_NJ, step_NJ * (order_NJ == _HUE)


def luma(images_NCHW: Tensor) -> Tensor:
    """Return the luma [N, 1, H, W] as torchvision's rgb_to_grayscale; one channel stands for three equal ones."""
    if images_NCHW.shape[1] == 1:
        return images_NCHW * _GRAY_LUMA
    red, green, blue = images_NCHW.chunk(3, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def shift_hue(images_N3HW: Tensor, turns_N: Tensor) -> Tensor:
    """Return the images with their hue turned by `turns_N` full circles, -.5 to .5; saturation and value stay.

    Source: RGB to HSV and back in closed form, channel = v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6 with
    n = 5, 3, 1 for red, green, blue; equal to torchvision's adjust_hue. Here k - 2 is cut to -6..6, where the share is
    that of ||k - 2| - 3| - 1, so nothing is divided by the chroma, and a whole image needs no modulo.
    """
    red, green, blue = images_N3HW.chunk(3, dim=1)
    value_N1HW = torch.maximum(torch.maximum(red, green), blue)
    low_N1HW = torch.minimum(torch.minimum(red, green), blue)
    chroma_N1HW = value_N1HW - low_N1HW
    # Chroma times the hue in sixths of a circle from the side opposite to blue's end, -3..3.
    other_N1HW = torch.where(value_N1HW == green, blue - red, (red - green).add_(chroma_N1HW, alpha=2))
    hue_N1HW = torch.where(value_N1HW == red, (green - blue).sub_(chroma_N1HW, alpha=2), other_N1HW)
    starts_3 = torch.tensor([5.0, 3.0, 1.0]).to(images_N3HW.device, non_blocking=True)
    starts_N311 = ((starts_3 + 6 * turns_N[:, None] + 3).remainder(6) - 3)[..., None, None]
    place_N3HW = torch.addcmul(hue_N1HW, starts_N311, chroma_N1HW).abs_().sub_(chroma_N1HW, alpha=3).abs_()
    return torch.clamp((value_N1HW + chroma_N1HW) - place_N3HW, low_N1HW, value_N1HW)


def blur(images_NCHW: Tensor, sigma_N: Tensor, *, radius: int) -> Tensor:
    """Return square images [N, C, S, S] blurred by a Gaussian of `sigma_N` pixels, 2 radius + 1 taps, edges reflected.

    PIL's GaussianBlur, which the papers' code calls with radius = sigma, approximates this by three box blurs. Both
    passes are products with one S x S matrix an image; a radius that reaches over a small image is cut to S - 1.
    """
    side = images_NCHW.shape[-1]
    radius = min(radius, side - 1)
    weights_NT = tap_weights(sigma_N, radius).to(images_NCHW.device, non_blocking=True)
    matrix_N1SS = (weights_NT @ _tap_matrices(side, radius, images_NCHW.device)).view(-1, 1, side, side)
    return matrix_N1SS @ images_NCHW @ matrix_N1SS.transpose(-1, -2).contiguous()


def tap_weights(sigma_N: Tensor, radius: int) -> Tensor:
    """Return the weights [N, 2 radius + 1] of a Gaussian's taps; a sigma of 0 leaves an image as it is."""
    taps_T = torch.arange(-radius, radius + 1)
    # Where 0 stands for no blur, the divisor of 1 does not matter: all other taps are given none of the weight.
    places_NT = taps_T / torch.where(sigma_N > 0, sigma_N, 1.0)[:, None]
    touched_NT = (sigma_N > 0)[:, None] | (taps_T == 0)
    return torch.softmax((-0.5 * places_NT**2).masked_fill(~touched_NT, -math.inf), dim=1)


def solarize(images_NCHW: Tensor, threshold_N: Tensor) -> Tensor:
    """Return the images with every value from the image's threshold on inverted, as torchvision's solarize.

    A threshold of one half on values 0..1 is that of BYOL (google-deepmind/deepmind-research,
    byol/utils/augmentations.py) and inverts the levels that PIL's solarize inverts at 128: no level lies between.
    """
    threshold_N111 = threshold_N.to(images_NCHW.device, non_blocking=True)[:, None, None, None]
    return torch.where(images_NCHW < threshold_N111, images_NCHW, 1 - images_NCHW)


def normalize(images_NCHW: Tensor, mean: Channels, std: Channels) -> Tensor:
    """Return (image - mean) / std per channel as [N, 3, H, W]; a single channel is repeated."""
    numbers_2C11 = torch.tensor((mean, std)).to(images_NCHW.device, non_blocking=True)[..., None, None]
    return (images_NCHW - numbers_2C11[0]).div_(numbers_2C11[1])


def _blend_(images_NCHW: Tensor, own_N111: Tensor, luma_N111: Tensor, mean_N111: Tensor, *, evenly: bool) -> None:
    """Make each image own * itself + luma part * its luma + mean part * its mean luma, clamped to 0..1, in place.

    `evenly`: the luma part is 0 for all images.
    """
    if images_NCHW.shape[1] == 1:  # the luma is the image times a constant: two passes less over the pixels
        mean_luma_N111 = images_NCHW.flatten(1).mean(1).mul_(_GRAY_LUMA)[:, None, None, None]
        images_NCHW.mul_(own_N111 + luma_N111 * _GRAY_LUMA).add_(mean_N111 * mean_luma_N111).clamp_(0, 1)
        return
    luma_N1HW = luma(images_NCHW)
    mean_luma_N111 = luma_N1HW.flatten(1).mean(1)[:, None, None, None]
    others_N1HW = mean_N111 * mean_luma_N111
    if not evenly:
        others_N1HW = luma_N1HW.mul_(luma_N111).add_(others_N1HW)
    images_NCHW.mul_(own_N111).add_(others_N1HW).clamp_(0, 1)


@functools.lru_cache(maxsize=16)
def _tap_matrices(side: int, radius: int, device: torch.device) -> Tensor:
    """Return [taps, side * side]: for each tap of a filter the 0/1 matrix from input to output pixels, edges reflected.

    A filter's matrix is its weights times these: the part that images share is made once.
    """
    taps_T1 = torch.arange(-radius, radius + 1)[:, None]
    read_TS = (torch.arange(side) + taps_T1).abs()  # reflected at the first pixel ...
    read_TS = (side - 1) - ((side - 1) - read_TS).abs()  # ... and at the last
    taps_TX = torch.nn.functional.one_hot(read_TS, side).to(torch.float32).flatten(1)
    return taps_TX.to(device, non_blocking=True)
