import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as on_pil
from torchvision.transforms.v2 import functional as tv

from leoclr.augment.color import (
    COLOR_DRAWS,
    apply_color,
    blur,
    blur_radius,
    draw_color,
    jitter,
    join_colors,
    luma,
    normalize,
    shift_hue,
    solarize,
)
from leoclr.augment.draw import uniform
from leoclr.augment.views import View

COUNT = 48
ALWAYS = View(size=20, jitter_p=1.0, gray_p=0.3, blur_p=0.5)


@pytest.fixture
def images_NCHW() -> Tensor:
    images_NCHW = torch.rand(COUNT, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    images_NCHW[0] = 0.5  # gray
    images_NCHW[1, 1:] = 0  # pure red
    images_NCHW[2] = 0
    images_NCHW[3, :2] = 1  # two equal largest channels
    return images_NCHW


def draws(count: int = COUNT) -> Tensor:
    return uniform(1, 0, torch.arange(count), stream=0, count=COLOR_DRAWS)


def naive_jitter(image_CHW: Tensor, factors_J: list[float], order_J: list[int]) -> Tensor:
    operations = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for operation in order_J:
        image_CHW = operations[operation](image_CHW, factors_J[operation])
    return image_CHW


def test_jitter_equals_torchvision_image_by_image(images_NCHW: Tensor) -> None:
    color = draw_color(ALWAYS, draws())
    before_NCHW = images_NCHW.clone()
    ours_NCHW = jitter(images_NCHW, color.factors_NJ, color.order_NJ)
    pairs = zip(color.factors_NJ.tolist(), color.order_NJ.tolist(), strict=True)
    theirs = [naive_jitter(image_CHW, *pair) for image_CHW, pair in zip(images_NCHW, pairs, strict=True)]
    torch.testing.assert_close(ours_NCHW, torch.stack(theirs), atol=2e-5, rtol=0)
    assert torch.equal(images_NCHW, before_NCHW)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_each_of_the_24_orders_equals_torchvision(images_NCHW: Tensor, order: tuple[int, ...]) -> None:
    factors_NJ = torch.tensor([[1.3, 0.7, 1.6, 0.08], [0.6, 1.4, 0.2, -0.1]])
    ours_NCHW = jitter(images_NCHW[:2], factors_NJ, torch.tensor(order).expand(2, 4))
    pairs = zip(images_NCHW, factors_NJ.tolist(), strict=False)
    theirs = [naive_jitter(image_CHW, factors, list(order)) for image_CHW, factors in pairs]
    torch.testing.assert_close(ours_NCHW, torch.stack(theirs), atol=2e-5, rtol=0)


def test_one_channel_gives_what_three_equal_ones_give(images_NCHW: Tensor) -> None:
    color = draw_color(ALWAYS, draws())
    one_N1HW = apply_color(images_NCHW[:, :1], color, radius=6)
    three_NCHW = apply_color(images_NCHW[:, :1].repeat(1, 3, 1, 1), color, radius=6)
    torch.testing.assert_close(one_N1HW.expand(-1, 3, -1, -1), three_NCHW, atol=1e-6, rtol=0)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.07, 0.5])
def test_hue_equals_torchvision(images_NCHW: Tensor, turn: float) -> None:
    theirs_NCHW = tv.adjust_hue(images_NCHW, turn)
    torch.testing.assert_close(shift_hue(images_NCHW, torch.full((COUNT,), turn)), theirs_NCHW, atol=1e-5, rtol=0)


def test_luma_equals_torchvision(images_NCHW: Tensor) -> None:
    torch.testing.assert_close(luma(images_NCHW), tv.rgb_to_grayscale(images_NCHW), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [20, 8, 5])
def test_blur_equals_torchvision(images_NCHW: Tensor, side: int) -> None:
    sigma_N = torch.linspace(0.1, 2, COUNT)
    small_NCHW = images_NCHW[..., :side, :side]
    taps = 2 * min(6, side - 1) + 1
    theirs = [
        tv.gaussian_blur(image, [taps, taps], [sigma, sigma])
        for image, sigma in zip(small_NCHW, sigma_N.tolist(), strict=True)
    ]
    torch.testing.assert_close(blur(small_NCHW, sigma_N, radius=6), torch.stack(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_solarize_equals_torchvision(images_NCHW: Tensor, threshold: float) -> None:
    threshold_N = torch.full((COUNT,), threshold)
    threshold_N[::2] = torch.inf
    ours_NCHW = solarize(images_NCHW, threshold_N)
    assert torch.equal(ours_NCHW[::2], images_NCHW[::2])
    torch.testing.assert_close(ours_NCHW[1::2], tv.solarize(images_NCHW[1::2], threshold))


def pil_images(count: int = 6, side: int = 32) -> list[Image.Image]:
    """Smooth colored pictures, as photographs are."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in coarse]


def levels_apart(ours_NCHW: Tensor, theirs: list[Image.Image]) -> Tensor:
    theirs_NHWC = torch.from_numpy(np.stack([np.asarray(image) for image in theirs]))
    return (ours_NCHW.mul(255) - theirs_NHWC.permute(0, 3, 1, 2)).abs()


def as_floats(images: list[Image.Image]) -> Tensor:
    return torch.stack([tv.pil_to_tensor(image) for image in images]) / 255


@pytest.mark.parametrize("factor", [0.2, 0.6, 1.4, 1.8])
@pytest.mark.parametrize("column", range(3))
def test_brightness_contrast_and_saturation_are_pils_within_two_levels(column: int, factor: float) -> None:
    images = pil_images()
    operation = (on_pil.adjust_brightness, on_pil.adjust_contrast, on_pil.adjust_saturation)[column]
    factors_NJ = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(len(images), 1)
    factors_NJ[:, column] = factor
    ours_NCHW = jitter(as_floats(images), factors_NJ, torch.arange(4).expand_as(factors_NJ))
    assert levels_apart(ours_NCHW, [operation(image, factor) for image in images]).max() < 2


def test_gray_and_solarize_are_pils_within_one_level() -> None:
    images = pil_images()
    gray_NCHW = luma(as_floats(images)).expand(-1, 3, -1, -1)
    assert levels_apart(gray_NCHW, [on_pil.rgb_to_grayscale(image, 3) for image in images]).max() < 1
    inverted_NCHW = solarize(as_floats(images), torch.full((len(images),), 0.5))  # BYOL's one half is PIL's 128
    assert levels_apart(inverted_NCHW, [on_pil.solarize(image, 128) for image in images]).max() < 0.01


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1])
def test_hue_is_pils_within_two_levels_on_average(turn: float) -> None:
    """PIL turns hue in 8-bit HSV, by 255ths of a circle rounded towards 0: single pixels are up to 17 levels off."""
    images = pil_images()
    ours_NCHW = shift_hue(as_floats(images), torch.full((len(images),), turn))
    apart_NCHW = levels_apart(ours_NCHW, [on_pil.adjust_hue(image, turn) for image in images])
    assert apart_NCHW.mean() < 2 and apart_NCHW.max() < 20


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_pils_within_a_level_on_average(sigma: float) -> None:
    """PIL's three box blurs only come near a Gaussian, and it repeats the pixels of the border, which are left out."""
    images = pil_images()
    ours_NCHW = blur(as_floats(images), torch.full((len(images),), sigma), radius=6)
    apart_NCHW = levels_apart(ours_NCHW, [image.filter(ImageFilter.GaussianBlur(sigma)) for image in images])
    inner_NCHW = apart_NCHW[..., 6:-6, 6:-6]
    assert inner_NCHW.mean() < 1 and inner_NCHW.max() < 4


def test_simclrs_jitter_is_drawn_from_its_ranges() -> None:
    strength = 1.0
    jitter_J = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    factors_NJ = draw_color(View(size=8, jitter=jitter_J, jitter_p=1.0), draws(4000)).factors_NJ
    for column, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        values = factors_NJ[:, column]
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high


def test_thirteen_taps_cover_moco_s_widest_blur() -> None:
    assert 2 * blur_radius(View(size=8)) + 1 == 13
    assert blur_radius(View(size=8, blur_sigma=(0.1, 0.5))) == 2


def test_normalize_equals_torchvision_and_repeats_one_channel(images_NCHW: Tensor) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    torch.testing.assert_close(normalize(images_NCHW, mean, std), tv.normalize(images_NCHW, list(mean), list(std)))
    gray_NCHW = images_NCHW[:, :1]
    assert torch.equal(normalize(gray_NCHW, mean, std), normalize(gray_NCHW.repeat(1, 3, 1, 1), mean, std))


def test_operations_come_in_the_order_jitter_gray_blur_solarize(images_NCHW: Tensor) -> None:
    color = draw_color(replace(ALWAYS, solarize_p=0.4), draws())
    expected_NCHW = jitter(images_NCHW, color.factors_NJ, color.order_NJ)
    expected_NCHW[color.gray_N] = luma(expected_NCHW[color.gray_N]).expand(-1, 3, -1, -1)
    blurred_N = color.sigma_N > 0
    assert 0 < int(blurred_N.sum()) < COUNT and 0 < int(color.gray_N.sum()) < COUNT
    expected_NCHW[blurred_N] = blur(expected_NCHW[blurred_N], color.sigma_N[blurred_N], radius=6)
    solarized_N = color.threshold_N == 0.5
    assert 0 < int(solarized_N.sum()) < COUNT
    expected_NCHW[solarized_N] = tv.solarize(expected_NCHW[solarized_N], 0.5)
    torch.testing.assert_close(apply_color(images_NCHW, color, radius=6), expected_NCHW)


def test_probabilities_of_zero_leave_images_as_they_are(images_NCHW: Tensor) -> None:
    color = draw_color(View(size=20, jitter_p=0, gray_p=0, blur_p=0), draws())
    assert apply_color(images_NCHW, color, radius=6) is images_NCHW


def test_drawn_parameters_have_the_view_s_ranges_and_frequencies() -> None:
    count = 10_000
    color = draw_color(View(size=8, solarize_p=0.2), draws(count))
    jittered_N = (color.factors_NJ != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)
    solarized_N = color.threshold_N.isfinite()
    shares = [(jittered_N, 0.8), (color.gray_N, 0.2), (color.sigma_N > 0, 0.5), (solarized_N, 0.2)]
    for share, expected in shares:
        assert abs(share.double().mean() - expected) < 5 * (expected * (1 - expected) / count) ** 0.5
    factors_NJ, sigma_N = color.factors_NJ[jittered_N], color.sigma_N[color.sigma_N > 0]
    for values, low, high in [
        *((factors_NJ[:, op], 0.6, 1.4) for op in range(3)),
        (factors_NJ[:, 3], -0.1, 0.1),
        (sigma_N, 0.1, 2),
    ]:
        assert low <= values.min() and values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / 12**0.5 / len(values) ** 0.5
    orders, counts = color.order_NJ.unique(dim=0, return_counts=True)
    assert len(orders) == 24 and (counts - count / 24).abs().max() < 5 * (count / 24) ** 0.5


def test_strong_jitter_never_draws_a_negative_factor() -> None:
    color = draw_color(View(size=8, jitter=(2.0, 2.0, 2.0, 0.5), jitter_p=1.0), draws(500))
    assert color.factors_NJ[:, :3].min() >= 0
    assert color.factors_NJ[:, 3].min() < -0.4


def test_joined_views_are_colored_as_each_alone(images_NCHW: Tensor) -> None:
    plain, heavy = View(size=20, jitter_p=0, gray_p=0, blur_p=0), replace(ALWAYS, solarize_p=0.5)
    colors = [draw_color(view, draws()) for view in (plain, heavy)]
    joined_NCHW = apply_color(images_NCHW.repeat(2, 1, 1, 1), join_colors(colors), radius=6)
    apart_NCHW = torch.cat([apply_color(images_NCHW, color, radius=6) for color in colors])
    torch.testing.assert_close(joined_NCHW, apart_NCHW)
