import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from leoclr.augment import reading
from leoclr.augment.draw import uniform
from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.strong import PICK_DRAWS, apply_strong, draw_strong
from leoclr.augment.views import View
from leoclr.data.contract import DataError, Images, Stack
from leoclr.data.files import Files

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
VIEWS = (View(size=12, crop_scale=None), View(size=12), View(size=16, blur_p=1.0))


def stack(*, gray: bool, count: int = 20) -> Stack:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (count, 14, 14, 3), dtype=np.uint8)
    return Stack(np.repeat(images_NHWC[..., :1], 3, axis=-1) if gray else images_NHWC)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    rng = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{index}.png" for index in range(12))
    for index, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)).save(path)
    return Files(paths)


def loader(images: Images, views: tuple[View, ...] = VIEWS, *, seed: int = 0, workers: int = 0) -> ViewLoader:
    return ViewLoader(images, views, mean=MEAN, std=STD, seed=seed, device="cpu", workers=workers)


def batches(made: ViewLoader, plan: list[np.ndarray], epoch: int = 0) -> list[tuple[Tensor, ...]]:
    return list(made.batches(epoch, plan))


def assert_equal(ours: list[tuple[Tensor, ...]], theirs: list[tuple[Tensor, ...]]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_plan_visits_every_image_once() -> None:
    plan = epoch_plan(20, batch=6, seed=1, epoch=2, drop_last=False)
    assert [len(part) for part in plan] == [6, 6, 6, 2]
    assert sorted(np.concatenate(plan).tolist()) == list(range(20))
    assert [len(part) for part in epoch_plan(20, batch=6, seed=1, epoch=2)] == [6, 6, 6]


def test_ranks_share_the_global_batches_of_one_worker() -> None:
    for drop_last in (True, False):
        whole = epoch_plan(21, batch=6, seed=1, epoch=0, drop_last=drop_last)
        shares = [epoch_plan(21, batch=6, seed=1, epoch=0, rank=r, world=3, drop_last=drop_last) for r in range(3)]
        joined = [np.concatenate(parts).tolist() for parts in zip(*shares, strict=True)]
        assert joined == [part.tolist() for part in whole]


def test_plans_change_with_seed_and_epoch_alone() -> None:
    orders = {
        tuple(epoch_plan(50, batch=50, seed=seed, epoch=epoch)[0]) for seed, epoch in [(0, 0), (0, 1), (1, 0), (0, 0)]
    }
    assert len(orders) == 3


@pytest.mark.parametrize(("batch", "world"), [(6, 4), (0, 1), (21, 1)])
def test_a_plan_without_whole_batches_is_refused(batch: int, world: int) -> None:
    with pytest.raises(ValueError, match="batch: "):
        epoch_plan(20, batch=batch, seed=0, epoch=0, world=world)


@pytest.mark.parametrize("gray", [True, False])
def test_views_have_their_sizes_in_their_order(gray: bool) -> None:
    views = next(loader(stack(gray=gray)).batches(0, [np.arange(5)]))
    assert [tuple(view.shape) for view in views] == [(5, 3, 12, 12), (5, 3, 12, 12), (5, 3, 16, 16)]
    assert all(view.dtype == torch.float32 and view.is_contiguous() for view in views)


def test_an_untouched_view_is_the_normalized_image() -> None:
    images = stack(gray=False)
    plain = View(size=14, crop_scale=None, jitter_p=0, gray_p=0, blur_p=0, flip_p=0)
    (view_NCHW,) = next(loader(images, (plain,)).batches(0, [np.array([3, 1])]))
    expected_NCHW = torch.from_numpy(images.images_NHWC[[3, 1]]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(view_NCHW, tv.normalize(expected_NCHW, list(MEAN), list(STD)), atol=1e-5, rtol=0)


def test_gray_stacks_take_one_channel_and_give_what_three_would() -> None:
    images, plan = stack(gray=True), [np.arange(20)]
    short, full = loader(images), loader(images)
    full._stack_NHWC = torch.from_numpy(images.images_NHWC)
    assert short._stack_NHWC is not None and short._stack_NHWC.shape[-1] == 1
    for one, three in zip(batches(short, plan)[0], batches(full, plan)[0], strict=True):
        torch.testing.assert_close(one, three, atol=1e-5, rtol=0)


def test_an_image_gets_the_same_views_in_any_batch() -> None:
    made = loader(stack(gray=False))
    alone, among = batches(made, [np.array([7])])[0], batches(made, [np.array([2, 7, 4])])[0]
    for one, three in zip(alone, among, strict=True):
        torch.testing.assert_close(one[0], three[1], atol=1e-5, rtol=0)


def test_an_image_gets_other_views_in_another_epoch_or_seed() -> None:
    plan = [np.arange(20)]
    first = batches(loader(stack(gray=False)), plan)[0]
    for other in (
        batches(loader(stack(gray=False)), plan, epoch=1)[0],
        batches(loader(stack(gray=False), seed=1), plan)[0],
    ):
        assert all(not torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_a_view_does_not_depend_on_the_views_beside_it() -> None:
    plan = [np.arange(20)]
    many, one = batches(loader(stack(gray=False)), plan)[0], batches(loader(stack(gray=False), VIEWS[:1]), plan)[0]
    torch.testing.assert_close(many[0], one[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_tail_of_a_plan_continues_an_epoch(lazy: bool, files: Files) -> None:
    made = loader(files if lazy else stack(gray=True))
    plan = epoch_plan(12, batch=4, seed=0, epoch=3)
    assert_equal(batches(made, plan[1:], epoch=3), batches(made, plan, epoch=3)[1:])


def test_any_number_of_workers_gives_the_same_views_and_moves_no_global_generator(files: Files) -> None:
    plan = epoch_plan(12, batch=4, seed=0, epoch=0)
    before = torch.get_rng_state()
    assert_equal(batches(loader(files, workers=2), plan), batches(loader(files), plan))
    assert torch.equal(torch.get_rng_state(), before)


def test_decoded_images_equal_a_stack_of_them_within_rounding(tmp_path: Path) -> None:
    images = stack(gray=False, count=6)
    paths = tuple(tmp_path / f"{index}.png" for index in range(6))
    for path, image in zip(paths, images.images_NHWC, strict=True):
        Image.fromarray(image).save(path)
    views = (View(size=12, jitter_p=0, gray_p=0),)  # jitter would stretch the rounding of half a level
    held, read = (batches(loader(source, views), [np.arange(6)])[0][0] for source in (images, Files(paths)))
    torch.testing.assert_close(held, read, atol=1.01 / 255 / min(STD), rtol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named(files: Files, workers: int) -> None:
    files.paths[5].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5\.png: not a readable image"):
        batches(loader(files, workers=workers), epoch_plan(12, batch=4, seed=0, epoch=0))


def test_flags_of_a_neighbor_change_nothing_whether_views_are_made_together_or_apart() -> None:
    images, plan = stack(gray=False), [np.arange(20)]
    kinds = (
        View(size=12),
        View(size=12, solarize_p=0.5),
        View(size=12, strong="code"),
        View(size=12, strong="paper", strong_picks=2, strong_p=1.0, solarize_p=0.2),
    )
    together = batches(loader(images, kinds), plan)[0]
    for place, alone in enumerate(kinds):
        others = tuple(alone if other == place else View(size=10) for other in range(len(kinds)))
        # Solarizing, posterizing and the rest are steps: where a value falls on the other side of one by the rounding
        # of another order of sums, it jumps. So nearly all values are compared, and the rest may be few.
        same = torch.isclose(batches(loader(images, others), plan)[0][place], together[place], atol=1e-5, rtol=0)
        assert same.double().mean() > 0.999
    assert not any(torch.allclose(one, two) for one, two in pairwise(together))


def test_two_views_of_one_kind_draw_their_own_solarization_and_strong_operations() -> None:
    bare = View(size=14, crop_scale=None, jitter_p=0, gray_p=0, blur_p=0, flip_p=0)
    images, plan = stack(gray=False, count=200), [np.arange(200)]
    plain_NCHW = batches(loader(images, (bare,)), plan)[0][0]
    for kind in (replace(bare, solarize_p=0.5), replace(bare, strong="paper", strong_picks=1)):
        changed = [
            (view - plain_NCHW).abs().flatten(1).amax(1) > 0.1 for view in batches(loader(images, (kind,) * 2), plan)[0]
        ]
        assert all(60 < int(changed_N.sum()) < 140 for changed_N in changed)
        assert 60 < int((changed[0] ^ changed[1]).sum()) < 140


def test_solarize_and_strong_operations_follow_the_weak_ones() -> None:
    images, plan = stack(gray=False), [np.arange(20)]
    (weak_NCHW,) = batches(loader(images, (View(size=12),)), plan)[0]
    full = View(size=12, solarize_p=0.6, solarize_threshold=0.3, strong="paper", strong_picks=3)
    (ours_NCHW,) = batches(loader(images, (full,)), plan)[0]
    own_NU = uniform(0, 0, torch.arange(20), stream=2**16, count=1 + 3 * PICK_DRAWS)
    weak_NCHW = weak_NCHW * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    for image_CHW, draws_U in zip(weak_NCHW, own_NU, strict=True):
        if draws_U[0] < 0.6:
            image_CHW.copy_(tv.solarize(image_CHW, 0.3))
    expected_NCHW = tv.normalize(apply_strong(weak_NCHW, draw_strong(full, own_NU[:, 1:])), list(MEAN), list(STD))
    assert torch.isclose(ours_NCHW, expected_NCHW, atol=1e-4, rtol=0).double().mean() > 0.999


def test_multi_crop_views_of_five_sizes_come_from_one_call(files: Files) -> None:
    sides = (24, 20, 16, 16, 12)
    views = (View(size=24), *(View(size=side, crop_scale=(0.1, 0.5), strong="code") for side in sides))
    plan = epoch_plan(12, batch=4, seed=0, epoch=0)
    made = batches(loader(files, views), plan)
    assert [tuple(view.shape) for view in made[0]] == [(4, 3, side, side) for side in (24, *sides)]
    assert_equal(batches(loader(files, views, workers=1), plan), made)


def test_processes_stay_from_epoch_to_epoch_and_read_what_each_plan_says(files: Files) -> None:
    made, alone, started = loader(files, workers=2), loader(files), list[str]()
    for epoch in range(3):
        plan = epoch_plan(12, batch=4, seed=0, epoch=epoch)
        assert_equal(batches(made, plan, epoch), batches(alone, plan, epoch))
        started.append(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
    assert started[0] == started[1] == started[2] != ""


def test_a_batch_of_several_parts_is_that_of_one(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [np.arange(12), np.arange(5), np.arange(0)]
    whole = batches(loader(files), plan)
    monkeypatch.setattr(reading, "PART", 5)
    assert_equal(batches(loader(files, workers=2), plan), whole)


def test_mirrored_crops_of_files_are_those_of_a_stack(tmp_path: Path) -> None:
    images = stack(gray=False, count=6)
    paths = tuple(tmp_path / f"{index}.png" for index in range(6))
    for path, image in zip(paths, images.images_NHWC, strict=True):
        Image.fromarray(image).save(path)
    bare = View(size=14, crop_scale=None, jitter_p=0, gray_p=0, blur_p=0, flip_p=0.5)
    read_NCHW, held_NCHW = (batches(loader(source, (bare,)), [np.arange(6)])[0][0] for source in (Files(paths), images))
    torch.testing.assert_close(read_NCHW, held_NCHW, atol=1e-5, rtol=0)
    (straight_NCHW,) = batches(loader(Files(paths), (replace(bare, flip_p=0),)), [np.arange(6)])[0]
    mirrored = [not torch.equal(one, other) for one, other in zip(read_NCHW, straight_NCHW, strict=True)]
    assert any(mirrored) and not all(mirrored)
