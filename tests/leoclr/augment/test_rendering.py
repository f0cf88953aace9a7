import numpy as np
import pytest
import torch

from leoclr.augment import rendering
from leoclr.augment.groups import draw_groups
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.mark.parametrize("kind", [View(size=12), View(size=12, strong="paper")])
def test_pieces_of_a_batch_are_colored_as_the_whole(kind: View, monkeypatch: pytest.MonkeyPatch) -> None:
    (group,) = draw_groups((kind,) * 2, seed=0, epoch=0, indices=np.arange(10))
    levels = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    crop_GCHW = torch.from_numpy(levels).permute(0, 3, 1, 2)
    whole = Renderer(MEAN, STD)(group, crop_GCHW.clone(), flip=True)
    monkeypatch.setattr(rendering, "_PIECE", 3 * 12 * 12 * 3)  # three images
    pieces = Renderer(MEAN, STD)(group, crop_GCHW.clone(), flip=True)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.isclose(one, other, atol=1e-5, rtol=0).double().mean() > 0.999
    assert torch.equal(crop_GCHW, torch.from_numpy(levels).permute(0, 3, 1, 2))
