"""Strong operations one by one against PIL, to the bit, and torchvision; the chain against the official code's loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from leoclr.augment import strong
from leoclr.augment.draw import uniform
from leoclr.augment.strong import PICK_DRAWS, apply_one, apply_strong, draw_strong
from leoclr.augment.views import View

Operation = Callable[[Image.Image, float], Image.Image]


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


# As maple-research-lab/CLSA, data_processing/RandAugment.py calls PIL.
PIL: dict[int, Operation] = {
    strong.SHEAR_X: lambda image, v: affine(image, 1, v, 0, 0, 1, 0),
    strong.SHEAR_Y: lambda image, v: affine(image, 1, 0, 0, v, 1, 0),
    strong.TRANSLATE_X: lambda image, v: affine(image, 1, 0, int(v * image.size[0]), 0, 1, 0),
    strong.TRANSLATE_Y: lambda image, v: affine(image, 1, 0, 0, 0, 1, int(v * image.size[1])),
    strong.ROTATE: lambda image, v: image.rotate(v),
    strong.SOLARIZE: lambda image, v: ImageOps.solarize(image, 256 - int(v)),
    strong.POSTERIZE: lambda image, v: ImageOps.posterize(image, int(v)),
    strong.BRIGHTNESS: lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    strong.CONTRAST: lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    strong.COLOR: lambda image, v: ImageEnhance.Color(image).enhance(v),
    strong.SHARPNESS: lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
    strong.AUTO_CONTRAST: lambda image, v: ImageOps.autocontrast(image),
    strong.EQUALIZE: lambda image, v: ImageOps.equalize(image),
    strong.INVERT: lambda image, v: ImageOps.invert(image),
}
SIGNED = range(strong.ROTATE + 1)
# The values that the code's magnitudes 1..9 stand for, written out by hand from its pool.
SHEARS = [0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27]
FACTORS = [0.14, 0.23, 0.32, 0.41, 0.5, 0.59, 0.68, 0.77, 0.86]
NO_VALUE = [0.0]
VALUES: dict[int, list[float]] = {
    **dict.fromkeys([strong.SHEAR_X, strong.SHEAR_Y, strong.TRANSLATE_X, strong.TRANSLATE_Y], SHEARS),
    strong.ROTATE: [3, 6, 9, 12, 15, 18, 21, 24, 27],
    strong.SOLARIZE: [25, 51, 76, 102, 128, 153, 179, 204, 230],
    strong.POSTERIZE: [4, 5, 6, 7],
    **dict.fromkeys([strong.BRIGHTNESS, strong.CONTRAST, strong.COLOR, strong.SHARPNESS], FACTORS),
    **dict.fromkeys([strong.AUTO_CONTRAST, strong.EQUALIZE, strong.INVERT], NO_VALUE),
}


def pictures(count: int, side: int) -> np.ndarray:
    """Noise, smooth pictures, and those with few levels, one level, or levels in a narrow band."""
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for place, image_HWC in enumerate(images_NHWC):
        if place % 5 == 1:
            coarse = Image.fromarray(image_HWC[:5, :5])
            image_HWC[:] = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        elif place % 5 == 2:
            image_HWC[:] = rng.integers(60, 60 + 3 * place, image_HWC.shape)
        elif place % 5 == 3:
            image_HWC[:] = np.where(image_HWC < 250, 17, 200)
    images_NHWC[4 % count] = 90
    return images_NHWC


def to_levels(images_NHWC: np.ndarray) -> Tensor:
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float()


def by_pil(images_NHWC: np.ndarray, op: int, values: list[float]) -> Tensor:
    pairs = zip(images_NHWC, values, strict=True)
    return to_levels(np.stack([np.asarray(PIL[op](Image.fromarray(image), value)) for image, value in pairs]))


@pytest.mark.parametrize("side", [33, 16])
@pytest.mark.parametrize("op", range(14))
def test_each_operation_equals_pils_to_the_bit(op: int, side: int) -> None:
    values = [value * sign for value in VALUES[op] for sign in ((1, -1) if op in SIGNED else (1,))] * 2
    values += [0.3, -0.2718, 0.001] if op in SIGNED else []
    images_NHWC = pictures(max(len(values), 10), side)
    values = (values * 10)[: len(images_NHWC)]
    ours_NCHW = apply_one(op, to_levels(images_NHWC), torch.tensor(values, dtype=torch.float64))
    assert torch.equal(ours_NCHW, by_pil(images_NHWC, op, values))


@pytest.mark.parametrize(
    ("op", "theirs", "levels"),
    [
        (strong.SOLARIZE, lambda image, v: tv.solarize(image, 256 - v), 0),
        (strong.POSTERIZE, lambda image, v: tv.posterize(image, int(v)), 0),
        (strong.EQUALIZE, lambda image, v: tv.equalize(image), 0),
        (strong.INVERT, lambda image, v: tv.invert(image), 0),
        (strong.AUTO_CONTRAST, lambda image, v: tv.autocontrast(image), 1),  # torchvision multiplies in float32
        (strong.BRIGHTNESS, tv.adjust_brightness, 1),
        (strong.CONTRAST, tv.adjust_contrast, 2),  # its mean of the gray levels is not rounded
        (strong.COLOR, tv.adjust_saturation, 1),
        (strong.SHARPNESS, tv.adjust_sharpness, 1),
    ],
)
def test_each_operation_on_levels_equals_torchvisions(op: int, theirs: Operation, levels: int) -> None:
    images_NHWC = pictures(9, 20)
    values = [VALUES[op][place % len(VALUES[op])] for place in range(9)]
    ours_NCHW = apply_one(op, to_levels(images_NHWC), torch.tensor(values, dtype=torch.float64))
    pairs = zip(to_levels(images_NHWC).byte(), values, strict=True)
    theirs_NCHW = torch.stack([theirs(image, value) for image, value in pairs]).float()
    assert (ours_NCHW - theirs_NCHW).abs().max() <= levels


@pytest.mark.parametrize("op", range(14))
def test_one_channel_gives_what_three_equal_ones_give(op: int) -> None:
    gray_N1HW = to_levels(pictures(9, 20))[:, :1]
    values_N = torch.tensor([VALUES[op][place % len(VALUES[op])] for place in range(9)], dtype=torch.float64)
    three_NCHW = apply_one(op, gray_N1HW.repeat(1, 3, 1, 1), values_N)
    assert torch.equal(apply_one(op, gray_N1HW, values_N).expand(-1, 3, -1, -1), three_NCHW)


def drawn(view: View, count: int) -> tuple[Tensor, strong.Strong]:
    uniforms_NU = uniform(5, 0, torch.arange(count), stream=9, count=view.strong_picks * PICK_DRAWS)
    return uniforms_NU, draw_strong(view, uniforms_NU)


def naive_chain(image: Image.Image, numbers: list[float], view: View) -> Image.Image:
    """RandAugment.__call__ of the official code on given random numbers; the paper's pool and ranges for "paper"."""
    for start in range(0, len(numbers), PICK_DRAWS):
        pick, apply, amount, turn = numbers[start : start + PICK_DRAWS]
        op, v = int(pick * 14), 1 + int(9 * amount) if view.strong == "code" else 10 * amount
        if apply >= view.strong_p or (op == strong.INVERT and view.strong == "code"):
            continue
        if op == strong.POSTERIZE:
            value: float = int(v * 4 / 10) + 4
        elif op == strong.SOLARIZE:
            value = int(v * 256 / 10)
        elif op in SIGNED:
            value = v * (30 if op == strong.ROTATE else 0.3) / 10 * (-1 if turn < 0.5 else 1)
        else:
            value = v * 0.9 / 10 + 0.05
        image = PIL[op](image, value)
    return image


@pytest.mark.parametrize("pool", ["code", "paper"])
def test_the_chain_equals_the_official_loop_to_the_bit(pool: str) -> None:
    view = View(size=20, strong=pool)
    uniforms_NU, picks = drawn(view, 60)
    images_NHWC = pictures(60, 20)
    images_NCHW = to_levels(images_NHWC) / 255
    before_NCHW = images_NCHW.clone()
    ours_NCHW = apply_strong(images_NCHW, picks)
    pairs = zip(images_NHWC, uniforms_NU.tolist(), strict=True)
    theirs = [np.asarray(naive_chain(Image.fromarray(image), numbers, view)) for image, numbers in pairs]
    assert torch.equal((ours_NCHW * 255).round(), to_levels(np.stack(theirs)))
    assert torch.equal(images_NCHW, before_NCHW)


@pytest.mark.parametrize("pool", ["code", "paper"])
def test_operations_are_drawn_evenly_and_applied_half_the_time(pool: str) -> None:
    _, picks = drawn(View(size=8, strong=pool), 10_000)
    op_NP = picks.op_NP
    assert op_NP.shape == (10_000, 5)
    counts = torch.bincount(op_NP[op_NP >= 0], minlength=14)
    expected = 50_000 / 28
    assert counts[strong.INVERT] == 0 if pool == "code" else (counts[strong.INVERT] - expected).abs() < 250
    assert (counts[: strong.INVERT] - expected).abs().max() < 5 * expected**0.5
    assert (op_NP[:, 0] == op_NP[:, 1]).logical_and(op_NP[:, 0] >= 0).any()  # with replacement


@pytest.mark.parametrize("op", range(14))
def test_the_code_s_values_are_those_of_its_magnitudes(op: int) -> None:
    _, picks = drawn(View(size=8, strong="code", strong_picks=20, strong_p=1.0), 1000)
    values = picks.value_NP[picks.op_NP == op]
    expected = [] if op == strong.INVERT else VALUES[op]
    expected = sorted({value * sign for value in expected for sign in ((1, -1) if op in SIGNED else (1,))})
    unique = values.mul(1e9).round().div(1e9).unique()  # -0.0 and sums of rounding apart
    torch.testing.assert_close(unique, torch.tensor(expected, dtype=torch.float64))


def test_the_paper_s_values_fill_their_ranges() -> None:
    _, picks = drawn(View(size=8, strong="paper", strong_picks=20, strong_p=1.0), 2000)
    ranges = {
        strong.SHEAR_X: (-0.3, 0.3),
        strong.ROTATE: (-30, 30),
        strong.SOLARIZE: (0, 255),
        strong.COLOR: (0.05, 0.95),
    }
    for op, (low, high) in ranges.items():
        values = picks.value_NP[picks.op_NP == op]
        slack = 0.01 * (high - low)
        assert low <= values.min() < low + slack and high - slack < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / 12**0.5 / len(values) ** 0.5


def test_images_without_a_pick_keep_what_lies_between_levels() -> None:
    images_NCHW = torch.rand(200, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    _, picks = drawn(View(size=6, strong="paper", strong_picks=1), 200)
    plain_N = (picks.op_NP < 0).all(1)
    ours_NCHW = apply_strong(images_NCHW, picks)
    assert 50 < int(plain_N.sum()) < 150
    assert torch.equal(ours_NCHW[plain_N], images_NCHW[plain_N])
    levels_MCHW = ours_NCHW[~plain_N] * 255
    torch.testing.assert_close(levels_MCHW, levels_MCHW.round(), atol=1e-4, rtol=0)
