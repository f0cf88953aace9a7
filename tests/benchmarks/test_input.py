"""Both sides make the same kind of views, of photos of ImageNet's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.input_peers import MEAN, STD, Moco
from benchmarks.photos import HEIGHT, WIDTH, small_photos, write_photos
from leoclr.augment.loader import ViewLoader, read_crops
from leoclr.augment.views import View
from leoclr.data.contract import Stack
from leoclr.data.files import Files


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, train=8)
    return tuple(sorted((root / "train" / "photo").iterdir()))


def decoded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_photos_have_imagenets_size(paths: tuple[Path, ...]) -> None:
    assert {decoded(path).size for path in paths} == {(WIDTH, HEIGHT)}
    assert 80_000 < np.mean([path.stat().st_size for path in paths]) < 140_000


def test_a_worker_crops_within_one_level_of_pillow(paths: tuple[Path, ...]) -> None:
    whole = View(size=224, crop_scale=None)
    (crops_VNHWC,) = read_crops(Files(paths), (whole,), 0, (0, np.arange(len(paths))))
    for crop_HWC, path in zip(crops_VNHWC[0].numpy(), paths, strict=True):
        theirs = np.asarray(decoded(path).resize((224, 224), Image.Resampling.BILINEAR))
        assert np.abs(crop_HWC.astype(int) - theirs).max() <= 1


def test_the_peer_makes_views_of_the_same_kind() -> None:
    photos_NHWC, view = small_photos(200, 32), View(size=32, blur_p=0.0)
    theirs = torch.stack([views[0] for views in Moco((view,)).from_stack(photos_NHWC)])
    loader = ViewLoader(Stack(photos_NHWC), (view,), mean=MEAN, std=STD, seed=0, device="cpu")
    ((ours,),) = loader.batches(0, [np.arange(200)])
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours.mean((0, 2, 3)), theirs.mean((0, 2, 3)), atol=0.15, rtol=0)
    torch.testing.assert_close(ours.std((0, 2, 3)), theirs.std((0, 2, 3)), atol=0.15, rtol=0)
