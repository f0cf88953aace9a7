from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from leoclr.augment.crop import BOX_DRAWS, draw_boxes
from leoclr.augment.draw import uniform
from leoclr.augment.evaluation import evaluation_batches, evaluation_views
from leoclr.augment.views import TestView, View
from leoclr.data.contract import DataError, Images, Stack
from leoclr.data.files import Files

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
STREAM = 1


@pytest.fixture
def stack() -> Stack:
    return Stack(np.random.default_rng(0).integers(0, 256, (20, 14, 18, 3), dtype=np.uint8))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    rng = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{index}.png" for index in range(6))
    for index, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)).save(path)
    return Files(paths)


def made(images: Images, view: TestView, indices: list[int]) -> Tensor:
    return evaluation_views(images, np.array(indices), view, mean=MEAN, std=STD, device="cpu")


def image(images: Images, index: int) -> Tensor:
    return torch.from_numpy(images.read(index)).permute(2, 0, 1)


def expected(image_CHW: Tensor, view: TestView, index: int) -> Tensor:
    """torchvision's functions on the same drawn parameters."""
    how = InterpolationMode(view.interpolation)
    side = [view.resize] if view.keep_ratio else [view.resize, view.resize]
    image_CHW = tv.resize(image_CHW, side, interpolation=how, antialias=True).clamp(0, 255)
    draws_1U = uniform(view.crop_seed, 0, torch.tensor([index]), stream=STREAM, count=BOX_DRAWS)
    height, width = image_CHW.shape[1:]
    if view.crop == "center":
        image_CHW = tv.center_crop(image_CHW, [view.size, view.size])
    elif view.crop == "random":
        top, left = (int(u * (side - view.size + 1)) for u, side in zip(draws_1U[0], (height, width), strict=False))
        image_CHW = tv.crop(image_CHW, top, left, view.size, view.size)
    else:
        crop = View(size=view.size, crop_scale=view.crop_scale)
        (box,) = draw_boxes(crop, draws_1U, torch.tensor([height]), torch.tensor([width])).tolist()
        image_CHW = tv.resized_crop(image_CHW, *box, [view.size, view.size], interpolation=how, antialias=True)
    return tv.normalize(image_CHW.clamp(0, 255).float() / 255, list(MEAN), list(STD))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "view",
    [
        TestView(resize=16, size=12),
        TestView(resize=14, size=9),
        TestView(resize=7, size=7),
        TestView(resize=16, size=12, keep_ratio=False),
        TestView(resize=16, size=12, keep_ratio=False, crop="random"),
        TestView(resize=16, size=12, keep_ratio=False, crop="random_resized"),
        TestView(resize=16, size=12, crop="random_resized", crop_scale=(0.5, 0.9), crop_seed=3),
    ],
)
def test_views_equal_torchvision(view: TestView, interpolation: str, stack: Stack, files: Files) -> None:
    view = TestView(**{name: getattr(view, name) for name in TestView.__slots__} | {"interpolation": interpolation})
    indices = [4, 0, 3]
    theirs = [expected(image(stack, index).float(), view, index) for index in indices]
    torch.testing.assert_close(made(stack, view, indices), torch.stack(theirs), atol=1e-4, rtol=0)
    theirs = [expected(image(files, index), view, index) for index in indices]
    assert torch.equal(made(files, view, indices), torch.stack(theirs))


@pytest.mark.parametrize("crop", ["random", "random_resized"])
def test_random_crops_hang_on_seed_and_index_alone(crop: str, stack: Stack) -> None:
    view = TestView(resize=16, size=8, crop=crop)
    many = made(stack, view, list(range(20)))
    torch.testing.assert_close(made(stack, view, [7, 2]), many[[7, 2]], atol=1e-5, rtol=0)
    other = made(stack, TestView(resize=16, size=8, crop=crop, crop_seed=1), list(range(20)))
    assert (many - other).abs().flatten(1).amax(1).gt(0.1).sum() > 15


def test_random_windows_lie_everywhere() -> None:
    ramp_HW1 = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None], (16, 16, 3))
    stack = Stack(np.stack([ramp_HW1 * 15] * 2000))
    view = TestView(resize=16, size=12, crop="random")
    lefts = made(stack, view, list(range(2000)))[:, 0, 0, 0].mul(STD[0]).add(MEAN[0]).mul(255 / 15).round()
    counts = torch.bincount(lefts.long(), minlength=6)
    assert counts[5] == 0 and (counts[:5] - 400).abs().max() < 5 * 400**0.5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_batches_are_the_views_of_their_plan(lazy: bool, workers: int, stack: Stack, files: Files) -> None:
    images, view = files if lazy else stack, TestView(resize=16, size=12, crop="random")
    plan = [np.array([4, 0, 3]), np.array([1])]
    made = list(evaluation_batches(images, plan, view, mean=MEAN, std=STD, device="cpu", workers=workers))
    assert [tuple(views.shape) for views in made] == [(3, 3, 12, 12), (1, 3, 12, 12)]
    alone = evaluation_views(images, np.array([4, 0, 3, 1]), view, mean=MEAN, std=STD, device="cpu")
    torch.testing.assert_close(torch.cat(made), alone, atol=0 if lazy else 1e-5, rtol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named(workers: int, files: Files) -> None:
    files.paths[2].write_bytes(b"no image")
    made = evaluation_batches(
        files, [np.arange(6)], TestView(resize=16, size=12), mean=MEAN, std=STD, device="cpu", workers=workers
    )
    with pytest.raises(DataError, match=r"^/.*2\.png: not a readable image: no known image format$"):
        list(made)
