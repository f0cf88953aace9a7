"""Levels are those of a picture: what a picture holds comes back, and nothing moves by more than half a level."""

import torch

from leoclr.levels import Levels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_every_level_comes_back() -> None:
    levels = Levels(MEAN, STD)
    pictures_NCHW = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    mean_C11, std_C11 = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    images_NCHW = (pictures_NCHW / 255 - mean_C11) / std_C11  # torchvision's ToTensor, then Normalize
    rounded_NCHW = levels.rounded(images_NCHW)
    assert torch.equal(rounded_NCHW, pictures_NCHW)
    back_NCHW = levels.normalized(rounded_NCHW, dtype=torch.float32)
    torch.testing.assert_close(back_NCHW, images_NCHW, rtol=1e-6, atol=1e-6)
    assert back_NCHW.is_contiguous(memory_format=torch.channels_last)


def test_between_levels_the_nearest_is_taken() -> None:
    levels = Levels(MEAN, STD).double()
    shares_NCHW = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    images_NCHW = (shares_NCHW - levels.mean_C11) / levels.std_C11
    back_NCHW = levels.normalized(levels.rounded(images_NCHW), dtype=torch.float64) * levels.std_C11 + levels.mean_C11
    assert (back_NCHW - shares_NCHW).abs().max() <= 0.5 / 255 + 1e-12
    assert (back_NCHW - shares_NCHW).abs().max() > 0.4 / 255


def test_what_no_picture_holds_becomes_black_or_white() -> None:
    images_NCHW = torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert Levels((0.0,) * 3, (1.0,) * 3).rounded(images_NCHW)[0, 0, 0].tolist() == [0, 255]


def test_nothing_of_it_is_in_a_checkpoint() -> None:
    assert Levels(MEAN, STD).state_dict() == {}
