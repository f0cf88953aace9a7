import copy
import math

import pytest
import torch
from torch import Tensor, nn

from leoclr.methods.byol import RECIPE, Config, Method, views
from leoclr.methods.contract import At, Batch, Facts
from leoclr.pretrain_settings import PretrainSettings
from tests.tiny_backbone import Tiny, noise

CONFIG = Config(hidden_dim=24, dim=4, momentum=0.9)  # wide: no row of hidden values is all zeros
STEPS = 12


def new_method() -> Method:
    torch.manual_seed(0)
    return Method(CONFIG, Tiny, Facts(images=5, classes=2)).double()


def at(step: int) -> At:
    return At(step, total=STEPS, epoch=0, epochs=1)


class ExperimentTranscript:
    """byol_experiment.py in its own order, with plain SGD: update of the online network, then of the target."""

    def __init__(self, method: Method) -> None:
        self.online = copy.deepcopy(nn.Sequential(method.backbone, method.head))
        self.predictor = copy.deepcopy(method.predictor)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.sgd = torch.optim.SGD([*self.online.parameters(), *self.predictor.parameters()], 0.05, momentum=0.9)

    def step(self, step: int, view1: Tensor, view2: Tensor) -> Tensor:
        projection = {view: self.target(view) for view in (view1, view2)}
        repr_loss = self.regression_loss(self.predictor(self.online(view1)), projection[view2])
        repr_loss = repr_loss + self.regression_loss(self.predictor(self.online(view2)), projection[view1])
        loss = repr_loss.mean()
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        tau = 1 - (1 - CONFIG.momentum) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        with torch.no_grad():
            for x, y in zip(self.target.parameters(), self.online.parameters(), strict=True):
                x.copy_(x + (1 - tau) * (y - x))
        return loss.detach()

    @staticmethod
    def regression_loss(x: Tensor, y: Tensor) -> Tensor:
        normed_x, normed_y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
        return ((normed_x - normed_y) ** 2).sum(dim=1)


def test_twelve_steps_equal_the_experiments_weight_for_weight() -> None:
    method = new_method()
    theirs = ExperimentTranscript(method)
    sgd = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.05, momentum=0.9)
    for step in range(STEPS):
        images = noise(step, view=0), noise(step, view=1)
        method.before_step(at(step))
        done = method(Batch(images))
        sgd.zero_grad()
        done.loss.backward()
        sgd.step()
        torch.testing.assert_close(done.loss.detach(), theirs.step(step, *images), rtol=1e-9, atol=0)
    method.before_step(at(STEPS))  # theirs has moved its target once more
    online, slow = nn.Sequential(method.backbone, method.head), nn.Sequential(method.slow.backbone, method.slow.head)
    torch.testing.assert_close(online.state_dict(), theirs.online.state_dict(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(list(slow.parameters()), list(theirs.target.parameters()), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(method.predictor.state_dict(), theirs.predictor.state_dict(), rtol=1e-9, atol=1e-12)


def test_momentum_rises_by_half_a_cosine_from_its_start_to_one() -> None:
    method = new_method()
    assert [method.momentum(step, 100) for step in (0, 50, 100)] == pytest.approx([0.9, 0.95, 1.0])


def test_first_step_leaves_the_copy_a_copy() -> None:
    method = new_method()
    before = copy.deepcopy(method.slow.state_dict())
    method.before_step(at(0))
    torch.testing.assert_close(method.slow.state_dict(), before, rtol=0, atol=0)


def test_gradient_reaches_the_trained_network_only() -> None:
    method = new_method()
    method(Batch((noise(0, view=0), noise(0, view=1)))).loss.backward()
    trained = [*method.backbone.parameters(), *method.head.parameters(), *method.predictor.parameters()]
    assert all(parameter.grad is not None for parameter in trained)
    assert all(parameter.grad.any() for parameter in trained if parameter.grad is not None and parameter.ndim > 1)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in method.slow.parameters())


def test_watch_tells_the_mean_cosine_and_the_targets_spread() -> None:
    done = new_method()(Batch((noise(0, view=0), noise(0, view=1))))
    seen = {name: value.item() for name, value in done.watch}
    assert seen["positive_similarity"] == pytest.approx(1 - done.loss.item() / 4)
    assert 0 < seen["target_spread"] < 1


def test_evaluated_is_the_trained_backbone_and_views_are_a_pair() -> None:
    method = new_method()
    assert method.evaluated() is method.backbone
    first, second = views(Config(), 224)
    assert (first.blur_p, second.blur_p, second.solarize_p) == (1.0, 0.1, 0.2)


def test_recipe_is_the_preset_for_a_thousand_epochs() -> None:
    settings = PretrainSettings(**RECIPE)
    assert settings.lr == pytest.approx(0.2 * settings.batch / 256)
    steps = 100  # of an epoch: byol/utils/schedules.py, learning_schedule
    for step in (0, 3, 999, 1000, 50_000, 99_999):
        warm, total = 10 * steps, settings.epochs * steps
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        expected = settings.lr * (step / warm if step < warm else cosine)
        assert settings.rate(step / steps) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_dim", 0), ("dim", 0), ("momentum", 1.1), ("second_blur_p", -1.0), ("gray_p", 2.0)]
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
