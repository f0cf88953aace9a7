import pytest
import torch
from torch import Tensor
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


def test_thirteen_taps_cover_moco_s_widest_blur() -> None:
    assert 2 * blur_radius(View(size=8)) + 1 == 13
    assert blur_radius(View(size=8, blur_sigma=(0.1, 0.5))) == 2


def test_normalize_equals_torchvision_and_repeats_one_channel(images_NCHW: Tensor) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    torch.testing.assert_close(normalize(images_NCHW, mean, std), tv.normalize(images_NCHW, list(mean), list(std)))
    gray_NCHW = images_NCHW[:, :1]
    assert torch.equal(normalize(gray_NCHW, mean, std), normalize(gray_NCHW.repeat(1, 3, 1, 1), mean, std))


def test_operations_come_in_the_order_jitter_gray_blur(images_NCHW: Tensor) -> None:
    color = draw_color(ALWAYS, draws())
    expected_NCHW = jitter(images_NCHW, color.factors_NJ, color.order_NJ)
    expected_NCHW[color.gray_N] = luma(expected_NCHW[color.gray_N]).expand(-1, 3, -1, -1)
    blurred_N = color.sigma_N > 0
    assert 0 < int(blurred_N.sum()) < COUNT and 0 < int(color.gray_N.sum()) < COUNT
    expected_NCHW[blurred_N] = blur(expected_NCHW[blurred_N], color.sigma_N[blurred_N], radius=6)
    torch.testing.assert_close(apply_color(images_NCHW, color, radius=6), expected_NCHW)


def test_probabilities_of_zero_leave_images_as_they_are(images_NCHW: Tensor) -> None:
    color = draw_color(View(size=20, jitter_p=0, gray_p=0, blur_p=0), draws())
    assert apply_color(images_NCHW, color, radius=6) is images_NCHW


def test_drawn_parameters_have_the_view_s_ranges_and_frequencies() -> None:
    count = 10_000
    color = draw_color(View(size=8), draws(count))
    jittered_N = (color.factors_NJ != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(1)
    for share, expected in [(jittered_N, 0.8), (color.gray_N, 0.2), (color.sigma_N > 0, 0.5)]:
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
    plain, strong = View(size=20, jitter_p=0, gray_p=0, blur_p=0), ALWAYS
    colors = [draw_color(view, draws()) for view in (plain, strong)]
    joined_NCHW = apply_color(images_NCHW.repeat(2, 1, 1, 1), join_colors(colors), radius=6)
    apart_NCHW = torch.cat([apply_color(images_NCHW, color, radius=6) for color in colors])
    torch.testing.assert_close(joined_NCHW, apart_NCHW)
