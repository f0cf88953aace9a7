import numpy as np
import torch

from leoclr.augment.groups import draw_groups
from leoclr.augment.views import View

VIEWS = (View(size=12), View(size=12, flip_p=1.0), View(size=16), View(size=12, strong="code"))


def test_neighbors_of_one_size_are_a_group_view_after_view() -> None:
    groups = draw_groups(VIEWS, seed=0, epoch=0, indices=np.arange(5))
    assert [[view.size for view in group.views] for group in groups] == [[12, 12], [16], [12]]
    first = groups[0]
    assert first.flips().shape == (10,) and bool(first.flips()[5:].all()) and not bool(first.flips()[:5].all())
    assert len(first.color().factors_NJ) == 10
    assert first.strong() == [None, None] and groups[2].strong()[0] is not None


def test_what_is_drawn_for_an_image_hangs_on_no_other_image() -> None:
    sides = torch.full((5,), 40), torch.full((5,), 30)
    among = draw_groups(VIEWS, seed=1, epoch=2, indices=np.arange(5))
    alone = draw_groups(VIEWS, seed=1, epoch=2, indices=np.array([3]))
    for many, one in zip(among, alone, strict=True):
        assert torch.equal(many.boxes(*sides)[3::5], one.boxes(*(side_N[:1] for side_N in sides)))
        assert torch.equal(many.color().factors_NJ[3::5], one.color().factors_NJ)
        assert torch.equal(many.flips()[3::5], one.flips())
    other = draw_groups(VIEWS, seed=1, epoch=3, indices=np.arange(5))
    assert not torch.equal(among[0].boxes(*sides), other[0].boxes(*sides))
