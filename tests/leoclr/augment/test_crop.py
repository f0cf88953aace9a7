import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from leoclr.augment.crop import BOX_DRAWS, draw_boxes, resize_box, resize_boxes
from leoclr.augment.draw import uniform
from leoclr.augment.views import View


def naive_box(view: View, draws: list[float], height: int, width: int) -> list[int]:
    """torchvision's RandomResizedCrop.get_params, line for line, on given random numbers."""
    assert view.crop_scale is not None
    low, high = view.crop_scale
    log_ratio = [math.log(ratio) for ratio in view.crop_ratio]
    for turn in range(10):
        area = height * width * (low + (high - low) * draws[2 * turn])
        ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * draws[2 * turn + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w]
    if width / height < min(view.crop_ratio):
        w, h = width, round(width / min(view.crop_ratio))
    elif width / height > max(view.crop_ratio):
        w, h = round(height * max(view.crop_ratio)), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


def drawn(view: View, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
    uniforms_NU = uniform(3, 0, torch.arange(count), stream=0, count=BOX_DRAWS)
    return uniforms_NU, draw_boxes(view, uniforms_NU, torch.full((count,), height), torch.full((count,), width))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (96, 40), (31, 97), (10, 90), (90, 10), (1, 1)])
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.08, 1.0), (0.9, 1.0)])
def test_boxes_equal_a_naive_loop(height: int, width: int, scale: tuple[float, float]) -> None:
    view = View(size=8, crop_scale=scale)
    uniforms_NU, boxes_N4 = drawn(view, height, width, 300)
    assert boxes_N4.tolist() == [naive_box(view, draws, height, width) for draws in uniforms_NU.tolist()]


def test_boxes_are_distributed_as_torchvision_draws_them() -> None:
    view, count = View(size=8), 4000
    _, ours_N4 = drawn(view, 40, 60, count)
    image_3HW = torch.zeros(3, 40, 60)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs_N4 = torch.tensor(
            [RandomResizedCrop.get_params(image_3HW, [0.2, 1], [3 / 4, 4 / 3]) for _ in range(count)]
        )
    for ours_N, theirs_N in zip(ours_N4.T, theirs_N4.T, strict=True):
        values = torch.arange(61)
        distance = [(column[:, None] <= values).double().mean(0) for column in (ours_N, theirs_N)]
        # Two-sample Kolmogorov-Smirnov at a level of 1e-4.
        assert (distance[0] - distance[1]).abs().max() < 2.23 * math.sqrt(2 / count)


def test_a_view_without_crop_takes_the_whole_image() -> None:
    _, boxes_N4 = drawn(View(size=8, crop_scale=None), 13, 21, 3)
    assert boxes_N4.tolist() == [[0, 0, 13, 21]] * 3


@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 28), (40, 24, 16), (24, 40, 56)])
def test_resized_boxes_equal_torchvisions(height: int, width: int, size: int) -> None:
    images_NHWC = torch.randint(0, 256, (40, height, width, 3), generator=torch.Generator().manual_seed(0)).byte()
    _, boxes_N4 = drawn(View(size=size), height, width, 40)
    flip_N = torch.arange(40) % 2 == 1
    resized_NCHW = resize_boxes(images_NHWC, boxes_N4, size, flip_N=flip_N)
    for image_HWC, box, flip, ours_CHW in zip(images_NHWC, boxes_N4.tolist(), flip_N, resized_NCHW, strict=True):
        theirs_CHW = tv.resized_crop(image_HWC.permute(2, 0, 1).float(), *box, [size, size], antialias=True)
        theirs_CHW = tv.horizontal_flip(theirs_CHW) if flip else theirs_CHW
        torch.testing.assert_close(ours_CHW, theirs_CHW, atol=0.01, rtol=0)


def test_one_resized_box_equals_pils_within_one_level() -> None:
    image_HWC = torch.randint(0, 256, (50, 70, 3), generator=torch.Generator().manual_seed(0)).byte()
    for top, left, height, width in [(0, 0, 50, 70), (10, 20, 31, 17), (3, 60, 9, 10)]:
        ours_HWC = torch.empty((24, 24, 3), dtype=torch.uint8)
        resize_box(image_HWC, [top, left, height, width], out_HWC=ours_HWC)
        crop = Image.fromarray(image_HWC.numpy()).crop((left, top, left + width, top + height))
        theirs_HWC = np.asarray(crop.resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(ours_HWC.numpy().astype(int) - theirs_HWC).max() <= 1
