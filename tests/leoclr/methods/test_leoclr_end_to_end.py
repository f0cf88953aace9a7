from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from leoclr.augment.views import View
from leoclr.heads import embed
from leoclr.methods import simclr
from leoclr.methods.contract import Batch
from leoclr.methods.leoclr_end_to_end import Config, Method, views
from tests.small_methods import FACTS
from tests.tiny_backbone import Tiny

CONFIG = Config(dim=5, joint_views=False)


def new_method(**settings: Any) -> Method:
    torch.manual_seed(0)
    return Method(replace(CONFIG, **settings), Tiny, FACTS).double()


def batch() -> Batch:
    drawn = torch.randn(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Batch((drawn[0], drawn[1], drawn[2]))


def score(one_D: Tensor, other_D: Tensor) -> Tensor:
    return (one_D @ other_D / CONFIG.temperature).exp()


def rows(method: Method) -> list[Tensor]:
    return [embed(method.backbone, method.head, view_NCHW) for view_NCHW in batch().views]


def test_nt_xent_is_simclrs_loss_of_the_original_with_each_crop() -> None:
    method = new_method()
    original, *crops = rows(method)
    expected = torch.zeros((), dtype=torch.float64)
    for crop in crops:
        every = [*original, *crop]
        for i, anchor_D in enumerate(every):
            rest = sum(score(anchor_D, other_D) for k, other_D in enumerate(every) if k != i)
            expected = expected - (score(anchor_D, every[(i + 4) % 8]) / rest).log() / 8
    torch.testing.assert_close(method(batch()).loss, expected, rtol=1e-10, atol=0)


def test_keys_is_eq_3_with_the_batch_in_place_of_the_queue() -> None:
    method = new_method(negatives="keys")
    original, *crops = rows(method)
    expected = torch.zeros((), dtype=torch.float64)
    for i, query_D in enumerate(original):
        others = [key_D for crop in crops for j, key_D in enumerate(crop) if j != i]
        for crop in crops:
            found = score(query_D, crop[i])
            expected = expected - (found / (found + sum(score(query_D, key_D) for key_D in others))).log() / 4
    torch.testing.assert_close(method(batch()).loss, expected, rtol=1e-10, atol=0)


def test_equals_simclr_twice_when_both_crops_are_one() -> None:
    original, crop, _ = batch().views
    torch.manual_seed(0)
    plain = simclr.Method(simclr.Config(dim=5, joint_views=False), Tiny, FACTS).double()
    expected = 2 * plain(Batch((original, crop))).loss
    torch.testing.assert_close(new_method()(Batch((original, crop, crop))).loss, expected)


@pytest.mark.parametrize("negatives", ["nt_xent", "keys"])
def test_mean_over_views_halves_the_loss(negatives: str) -> None:
    halved = new_method(negatives=negatives, view_reduction="mean")(batch()).loss
    torch.testing.assert_close(2 * halved, new_method(negatives=negatives)(batch()).loss)


def test_sum_of_the_sides_is_twice_the_mean() -> None:
    torch.testing.assert_close(new_method(reduction="sum")(batch()).loss, 2 * new_method()(batch()).loss)


@pytest.mark.parametrize("negatives", ["nt_xent", "keys"])
@pytest.mark.parametrize("encoders", ["shared", "two"])
def test_all_encoders_are_trained_through_all_views(encoders: str, negatives: str) -> None:
    method = new_method(encoders=encoders, negatives=negatives)
    shown = [view.requires_grad_() for view in batch().views]
    method(Batch(tuple(shown))).loss.backward()
    assert all(view.grad is not None and view.grad.any() for view in shown)
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name


def test_two_encoders_start_apart_and_the_originals_is_evaluated() -> None:
    method = new_method(encoders="two")
    assert not torch.equal(next(method.key_backbone.parameters()), next(method.backbone.parameters()))
    assert method.evaluated() is method.backbone
    with torch.no_grad():
        for parameter in method.key_backbone.parameters():
            parameter.zero_()
    original_ND = embed(method.backbone, method.head, batch().views[0])
    spread = dict(method(batch()).watch)["query_spread"]
    torch.testing.assert_close(spread, original_ND.std(dim=0, correction=0).mean() * 5**0.5)


def test_views_are_the_whole_image_and_two_crops_augmented_as_simclrs() -> None:
    crop = View(size=224, crop_scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2))
    assert views(Config(), 224) == (replace(crop, crop_scale=None), crop, crop)
    assert views(Config(original="crop"), 224) == (crop, crop, crop)
    plain = View(size=224, crop_scale=None, jitter=crop.jitter, jitter_p=0, gray_p=0, blur_p=0, flip_p=0)
    assert views(Config(augment_original=False), 224) == (plain, crop, crop)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("encoders", {"encoders": "three"}),
        ("negatives", {"negatives": "queue"}),
        ("view_reduction", {"view_reduction": "max"}),
        ("original", {"original": "half"}),
        ("temperature", {"temperature": 0.0}),
        ("reduction", {"negatives": "keys", "reduction": "sum"}),
    ],
)
def test_config_names_the_field_that_is_out_of_range(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**settings)
