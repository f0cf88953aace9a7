import copy

import pytest
import torch
from torch import nn

from leoclr.augment.views import View
from leoclr.methods.contract import Batch
from leoclr.methods.supervised import Config, Method, views
from tests.small_methods import FACTS, classes
from tests.tiny_backbone import Tiny

STEPS = 10


def new_method() -> Method:
    torch.manual_seed(0)
    return Method(Config(), Tiny, FACTS).double()


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return Batch((torch.randn(7, 3, 16, 16, generator=generator, dtype=torch.float64),), classes_N=classes(7))


def test_ten_steps_equal_plain_classification_weight_for_weight() -> None:
    method = new_method()
    plain = copy.deepcopy(nn.Sequential(method.backbone, method.head))
    ours_sgd = torch.optim.SGD(method.parameters(), 0.1, 0.9, weight_decay=1e-4)
    theirs_sgd = torch.optim.SGD(plain.parameters(), 0.1, 0.9, weight_decay=1e-4)
    for step in range(STEPS):
        loss = method(batch(step)).loss
        scores_NC = plain(batch(step).views[0])
        expected = -sum(score_C.softmax(0)[i % 3].log() for i, score_C in enumerate(scores_NC)) / 7
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        for each, optimizer in ((loss, ours_sgd), (expected, theirs_sgd)):
            optimizer.zero_grad()
            each.backward()
            optimizer.step()
    ours = nn.Sequential(method.backbone, method.head).state_dict()
    torch.testing.assert_close(ours, plain.state_dict(), rtol=1e-9, atol=1e-12)


def test_it_asks_for_classes_and_has_a_score_for_each() -> None:
    assert Method.READS_CLASSES
    assert new_method().head.out_features == FACTS.classes
    with pytest.raises(ValueError, match="^classes_N: "):
        new_method()(Batch(batch(0).views))


def test_watch_is_the_share_of_right_answers_in_percent() -> None:
    method = new_method()
    with torch.no_grad():
        method.head.weight.zero_()
        method.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))  # always the second class: 2 of 7
    assert dict(method(batch(0)).watch)["train_top1"].item() == pytest.approx(100 * 2 / 7)


def test_the_view_is_a_crop_and_a_flip() -> None:
    assert views(Config(), 224) == (View(size=224, crop_scale=(0.08, 1.0), jitter_p=0, gray_p=0, blur_p=0),)


def test_config_names_the_field_that_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="^flip_p: must be"):
        Config(flip_p=1.5)
