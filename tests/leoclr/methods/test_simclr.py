import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.methods.contract import At, Batch
from leoclr.methods.simclr import RECIPE, Config, Method, views
from tests.small_methods import FACTS
from tests.tiny_backbone import Tiny

CONFIG = Config(dim=5)
STEPS = 10


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, FACTS).double()


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    first, second = torch.randn(2, 4, 3, 16, 16, generator=generator, dtype=torch.float64)
    return Batch((first, second))


def trained_parameters(method: Method) -> list[nn.Parameter]:
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def objective(hidden: Tensor, temperature: float) -> Tensor:
    """Write objective.py, add_contrastive_loss, for one replica, in its own order and with its large number."""
    hidden1, hidden2 = functional.normalize(hidden, dim=-1).chunk(2)
    masks = torch.eye(len(hidden1), dtype=hidden.dtype)
    logits_aa = hidden1 @ hidden1.T / temperature - masks * 1e9
    logits_bb = hidden2 @ hidden2.T / temperature - masks * 1e9
    logits_ab = hidden1 @ hidden2.T / temperature
    logits_ba = hidden2 @ hidden1.T / temperature
    labels = torch.arange(len(hidden1))
    loss_a = functional.cross_entropy(torch.cat([logits_ab, logits_aa], dim=1), labels)
    loss_b = functional.cross_entropy(torch.cat([logits_ba, logits_bb], dim=1), labels)
    return loss_a + loss_b


def test_ten_steps_equal_the_codes_objective_weight_for_weight() -> None:
    method = new_method(replace(CONFIG, reduction="sum"))
    theirs = copy.deepcopy(nn.Sequential(method.backbone, method.head))
    ours_sgd = torch.optim.SGD(trained_parameters(method), 0.1, 0.9)
    theirs_sgd = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], 0.1, 0.9)
    for step in range(STEPS):
        method.before_step(At(step, total=STEPS, epoch=0, epochs=1))
        loss = method(batch(step)).loss
        expected = objective(theirs(torch.cat(batch(step).views)), CONFIG.temperature)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
        for each, optimizer in ((loss, ours_sgd), (expected, theirs_sgd)):
            optimizer.zero_grad()
            each.backward()
            optimizer.step()
    ours = nn.Sequential(method.backbone, method.head).state_dict()
    torch.testing.assert_close(ours, theirs.state_dict(), rtol=1e-9, atol=1e-12)


def test_sum_of_the_sides_is_twice_the_mean() -> None:
    losses = torch.stack([new_method(replace(CONFIG, reduction=each))(batch(0)).loss for each in ("mean", "sum")])
    torch.testing.assert_close(losses[1], 2 * losses[0], rtol=1e-12, atol=0)


def test_joint_views_share_batch_statistics_and_nothing_else() -> None:
    joint, apart = new_method(), new_method(replace(CONFIG, joint_views=False))
    assert not torch.allclose(apart(batch(0)).loss, joint(batch(0)).loss)
    for method in (joint, apart):
        method.eval()
        method.load_state_dict(joint.state_dict())
    torch.testing.assert_close(apart(batch(0)).loss, joint(batch(0)).loss)


def test_loss_does_not_depend_on_the_order_of_views_or_images() -> None:
    first, second = batch(0).views
    method = new_method()
    orders = [(second, first), (first.flip(0), second.flip(0))]
    losses = torch.stack([method(Batch(each)).loss for each in orders])
    torch.testing.assert_close(losses, method(batch(0)).loss.expand(2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_head_is_the_codes(layers: int) -> None:
    head = new_method(replace(CONFIG, layers=layers)).head
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [(6, 6)] * (layers - 1) + [(5, 6)]
    assert all(layer.bias is None for layer in linear)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear, nn.BatchNorm1d]
    assert [type(layer) for layer in head] == kinds
    drawn = torch.cat([layer.weight.flatten() for layer in linear])
    assert 0.006 < drawn.std().item() < 0.014
    last = head[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.weight.requires_grad
    assert not last.bias.requires_grad
    assert not last.bias.any()


def test_gradient_reaches_every_trained_parameter() -> None:
    method = new_method()
    method(batch(0)).loss.backward()
    untrained = [name for name, parameter in method.named_parameters() if parameter.grad is None]
    assert untrained == ["head.4.bias"]  # the shift that the last norm does not have


def test_watch_tells_collapse() -> None:
    same = batch(0).views[0][:1].repeat(4, 1, 1, 1)
    watched = dict(new_method().eval()(Batch((same, same))).watch)
    assert watched["positive_similarity"].item() == pytest.approx(1.0)
    assert watched["query_spread"].item() == pytest.approx(0.0, abs=1e-9)


def test_views_are_two_crops_with_the_jitter_of_strength_one() -> None:
    assert views(Config(), 224) == (View(size=224, crop_scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2)),) * 2


def test_both_rules_of_scaling_give_the_rate_of_the_recipe() -> None:
    assert RECIPE["lr"] == pytest.approx(0.3 * RECIPE["batch"] / 256) == pytest.approx(0.075 * RECIPE["batch"] ** 0.5)


def test_blocks_of_the_recipe_start_as_their_shortcuts() -> None:
    assert RECIPE["zero_init_residual"]  # google-research/simclr, resnet.py: residual_block, bottleneck_block


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("dim", 0), ("layers", 0), ("reduction", "max"), ("crop_scale", (0, 1))]
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
