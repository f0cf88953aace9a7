import pytest
import torch

from leoclr.augment.views import View
from leoclr.backbones import build
from leoclr.methods import random
from leoclr.methods.contract import Batch, Facts

FACTS = Facts(images=5, classes=2)


def test_is_a_new_backbone_and_nothing_else() -> None:
    torch.manual_seed(0)
    expected = build("resnet18", width=2)
    torch.manual_seed(0)
    method = random.Method(random.Config(), lambda: build("resnet18", width=2), FACTS)
    torch.testing.assert_close(method.backbone.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert all(name.startswith("backbone.") for name in method.state_dict())


def test_sees_the_image_as_it_is() -> None:
    plain = View(size=28, crop_scale=None, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0)
    assert random.views(random.Config(), 28) == (plain,)


def test_refuses_to_train() -> None:
    method = random.Method(random.Config(), lambda: build("resnet18", width=2), FACTS)
    with pytest.raises(RuntimeError, match="never trained"):
        method(Batch((torch.zeros(2, 3, 28, 28),)))
