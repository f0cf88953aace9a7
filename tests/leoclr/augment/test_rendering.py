import numpy as np
import pytest
import torch

from leoclr.augment import native, rendering
from leoclr.augment.groups import draw_groups
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.mark.parametrize("kind", [View(size=12), View(size=12, strong="paper")])
def test_pieces_of_a_batch_are_colored_as_the_whole(kind: View, monkeypatch: pytest.MonkeyPatch) -> None:
    (group,) = draw_groups((kind,) * 2, seed=0, epoch=0, indices=np.arange(10))
    levels = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    crop_GCHW = torch.from_numpy(levels).permute(0, 3, 1, 2)
    whole = Renderer(MEAN, STD, how="off")(group, crop_GCHW.clone(), flip=True)
    monkeypatch.setattr(rendering, "_PIECE", 3 * 12 * 12 * 3)  # three images
    pieces = Renderer(MEAN, STD, how="off")(group, crop_GCHW.clone(), flip=True)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.isclose(one, other, atol=1e-5, rtol=0).double().mean() > 0.999
    assert torch.equal(crop_GCHW, torch.from_numpy(levels).permute(0, 3, 1, 2))


@pytest.mark.parametrize("kind", [View(size=12, solarize_p=0.3), View(size=12, strong="code")])
def test_every_way_gives_the_same_numbers(kind: View) -> None:
    (group,) = draw_groups((kind,) * 2, seed=0, epoch=0, indices=np.arange(20))
    levels = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    crop_GCHW = torch.from_numpy(levels).permute(0, 3, 1, 2)
    off, auto, on = (Renderer(MEAN, STD, how=how)(group, crop_GCHW, flip=True) for how in ("off", "auto", "on"))
    for plain_NCHW, fast_NCHW, same_NCHW in zip(off, auto, on, strict=True):
        assert torch.equal(fast_NCHW, same_NCHW)
        assert torch.isclose(plain_NCHW, fast_NCHW, atol=1e-5, rtol=0).double().mean() > 0.999


def test_gray_images_of_one_channel_need_no_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    (group,) = draw_groups((View(size=12),), seed=0, epoch=0, indices=np.arange(4))
    crop_GCHW = torch.randint(0, 256, (4, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(native, "ready", lambda: pytest.fail("it was asked for"))
    (auto_NCHW,) = Renderer(MEAN, STD)(group, crop_GCHW, flip=True)
    (off_NCHW,) = Renderer(MEAN, STD, how="off")(group, crop_GCHW, flip=True)
    assert torch.equal(auto_NCHW, off_NCHW)
