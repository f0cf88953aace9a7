import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.methods import moco_v2
from leoclr.methods.contract import At, Batch, Facts
from leoclr.methods.leoclr import Config, Method, views
from tests.tiny_backbone import Tiny

CONFIG = Config(queue_size=23, dim=6, momentum=0.9)  # 23 keys: no batch divides them
FACTS = Facts(images=5, classes=2)
STEPS = 20


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, FACTS).double()


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    original, first, second = torch.randn(3, 5, 3, 16, 16, generator=generator, dtype=torch.float64)
    return Batch((original, first, second))


def trained_parameters(method: Method) -> list[nn.Parameter]:
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def cross_entropy(query_ND: Tensor, key_ND: Tensor, memory: list[Tensor]) -> Tensor:
    """Write eq. (2) as a loop over images; the sum runs over the positive and all of the memory."""
    losses = []
    for query_D, key_D in zip(query_ND, key_ND, strict=True):
        scores = torch.stack([query_D @ other_D for other_D in [key_D, *memory]]) / CONFIG.temperature
        losses.append(torch.logsumexp(scores, dim=0) - scores[0])
    return torch.stack(losses).mean()


def test_twenty_steps_equal_algorithm_1_weight_for_weight() -> None:
    method = new_method()
    fast = copy.deepcopy(nn.Sequential(method.backbone, method.head))
    slow = copy.deepcopy(fast).requires_grad_(False)
    memory = list(method.queue.keys_KD.clone())  # oldest first
    ours_sgd = torch.optim.SGD(trained_parameters(method), 0.03, 0.9, weight_decay=1e-4)
    theirs_sgd = torch.optim.SGD(fast.parameters(), 0.03, 0.9, weight_decay=1e-4)
    for step in range(STEPS):
        method.before_step(At(step, total=STEPS, epoch=0, epochs=1))
        done = method(batch(step))

        original, first, second = batch(step).views
        with torch.no_grad():
            for theta_q, theta_k in zip(fast.parameters(), slow.parameters(), strict=True):  # eq. (1)
                theta_k.copy_(CONFIG.momentum * theta_k + (1 - CONFIG.momentum) * theta_q)
            v1_ND = functional.normalize(slow(first), dim=1)  # line 6
            v2_ND = functional.normalize(slow(second), dim=1)  # line 7
        u_ND = functional.normalize(fast(original), dim=1)  # line 5
        total = cross_entropy(u_ND, v1_ND, memory) + cross_entropy(u_ND, v2_ND, memory)  # lines 8 to 10
        memory = [*memory, *v1_ND, *v2_ND][-CONFIG.queue_size :]

        torch.testing.assert_close(done.loss, total, rtol=1e-9, atol=0)
        for loss, optimizer in ((done.loss, ours_sgd), (total, theirs_sgd)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        method.update(done)
    ours = nn.Sequential(method.backbone, method.head).state_dict()
    ours_slow = nn.Sequential(method.slow.backbone, method.slow.head).state_dict()
    torch.testing.assert_close(ours, fast.state_dict(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours_slow, slow.state_dict(), rtol=1e-9, atol=1e-12)
    oldest_first_KD = method.queue.keys_KD.roll(-int(method.queue.pointer), dims=0)
    torch.testing.assert_close(oldest_first_KD, torch.stack(memory), rtol=1e-9, atol=1e-12)


def test_mean_halves_loss_and_gradient() -> None:
    whole, half = new_method(), new_method(replace(CONFIG, view_reduction="mean"))
    for method in (whole, half):
        method(batch(0)).loss.backward()
    torch.testing.assert_close(half(batch(0)).loss * 2, whole(batch(0)).loss)
    gradients = [[parameter.grad for parameter in trained_parameters(method)] for method in (whole, half)]
    torch.testing.assert_close([2 * gradient for gradient in gradients[1]], gradients[0], rtol=1e-10, atol=1e-15)


def test_loss_does_not_depend_on_the_order_of_the_crops() -> None:
    original, first, second = batch(0).views
    method = new_method()
    losses = torch.stack(
        [method(Batch(views)).loss for views in ((original, first, second), (original, second, first))]
    )
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


def test_equals_moco_v2_when_both_crops_are_one() -> None:
    original, first, _ = batch(0).views
    torch.manual_seed(0)
    moco = moco_v2.Method(moco_v2.Config(queue_size=23, dim=6), Tiny, FACTS).double()
    torch.testing.assert_close(
        new_method()(Batch((original, first, first))).loss, 2 * moco(Batch((original, first))).loss
    )


@pytest.mark.parametrize(("enqueue", "pushed"), [("first", 5), ("both", 10)])
def test_enqueue_decides_what_is_pushed(enqueue: str, pushed: int) -> None:
    method = new_method(replace(CONFIG, enqueue=enqueue))
    done = method(batch(0))
    method.update(done)
    assert int(method.queue.pointer) == pushed
    first_ND = method.slow(batch(0).views[1], view=0)
    torch.testing.assert_close(method.queue.keys_KD[:5], first_ND, rtol=1e-12, atol=1e-15)
    second_ND = method.slow(batch(0).views[2], view=1)
    assert torch.allclose(method.queue.keys_KD[5:10], second_ND) is (enqueue == "both")


def test_joint_keys_share_batch_statistics_and_nothing_else() -> None:
    apart, joint = new_method(), new_method(replace(CONFIG, joint_keys=True))
    assert not torch.allclose(joint(batch(0)).loss, apart(batch(0)).loss)
    for method in (apart, joint):
        method.eval()
        method.load_state_dict(apart.state_dict())
    torch.testing.assert_close(joint(batch(0)).keys, apart(batch(0)).keys)


def test_gradient_reaches_the_trained_encoder_only() -> None:
    method = new_method()
    done = method(batch(0))
    done.loss.backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(method))
    assert all(parameter.grad is None for parameter in method.slow.parameters())
    assert not any(key_ND.requires_grad for key_ND in done.keys)


def test_loss_starts_near_that_of_random_guessing() -> None:
    losses = torch.stack([new_method()(batch(step)).loss for step in range(5)])
    # Any loss of one view lies within 2 / temperature of log(1 + K), since cosines lie within 1 of 0.
    assert (losses / 2 - math.log(24)).abs().max() < 2 / CONFIG.temperature


def test_the_first_view_is_the_whole_image_with_the_augmentations_of_the_crops() -> None:
    assert views(Config(), 224) == (View(size=224, crop_scale=None), View(size=224), View(size=224))


def test_open_choices_change_the_first_view_only() -> None:
    crop = View(size=28)
    plain = View(size=28, crop_scale=None, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0)
    assert views(Config(original="crop"), 28) == (crop, crop, crop)
    assert views(Config(augment_original=False), 28) == (plain, crop, crop)


@pytest.mark.parametrize(
    ("field", "value"),
    [("view_reduction", "max"), ("enqueue", "second"), ("original", "half"), ("temperature", -1.0)],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
