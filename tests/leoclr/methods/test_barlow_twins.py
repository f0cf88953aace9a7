import copy
from collections.abc import Sequence

import pytest
import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor, nn

from leoclr import optim
from leoclr.methods.barlow_twins import RECIPE, Config, Method, views
from leoclr.methods.contract import Batch, Facts
from leoclr.pretrain_settings import PretrainSettings
from leoclr.stepping import new_optimizer
from tests.tiny_backbone import Tiny, noise

CONFIG = Config(projector=(7, 4))
IMAGES = noise(0, view=0), noise(0, view=1)


def new_method() -> Method:
    torch.manual_seed(0)
    return Method(CONFIG, Tiny, Facts(images=5, classes=2)).double()


def test_loss_and_gradients_are_those_of_lightlys_loss() -> None:
    method = new_method()
    theirs = copy.deepcopy(method)
    done = method(Batch(IMAGES))
    expected = BarlowTwinsLoss(lambda_param=CONFIG.redundancy_weight)(
        *(theirs.head(theirs.backbone(v)) for v in IMAGES)
    )
    torch.testing.assert_close(done.loss, expected)
    done.loss.backward()
    expected.backward()
    ours = [parameter.grad for parameter in method.parameters()]
    torch.testing.assert_close(ours, [p.grad for p in theirs.parameters()], rtol=1e-9, atol=1e-12)


def test_watch_splits_the_loss() -> None:
    done = new_method()(Batch(IMAGES))
    seen = {name: value.item() for name, value in done.watch}
    assert done.loss.item() == pytest.approx(seen["invariance"] + 0.0051 * seen["redundancy"])
    assert 0 < seen["embedding_spread"] <= 1


def test_projector_is_mains() -> None:
    layers = [type(layer) for layer in new_method().head]
    assert layers == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert not any(isinstance(layer, nn.Linear) and layer.bias is not None for layer in new_method().head)
    assert Config().projector == (8192, 8192, 8192)


def test_views_are_a_pair() -> None:
    first, second = views(Config(), 224)
    assert (first.solarize_p, second.solarize_p) == (0.0, 0.2)


class MainLars:
    """main.py's class LARS and its two rates, 0.2 and 0.0048 per 256 images."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters, self.mu = parameters, [torch.zeros_like(p) for p in parameters]

    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        for p, dp, mu in zip(self.parameters, gradients, self.mu, strict=True):
            if p.ndim > 1:
                dp = dp + 1e-6 * p
                dp = dp * (0.001 * p.norm() / dp.norm())
            mu.mul_(0.9).add_(dp)
            p.sub_(mu * (lr * (0.2 if p.ndim > 1 else 0.0048)))


def test_recipe_trains_as_main_does_on_sixteen_workers() -> None:
    """There each worker's gradient is that of its own share of the correlation: the mean is the whole's over 16."""
    settings = PretrainSettings(**RECIPE)
    assert settings.lr == pytest.approx(0.2 * settings.batch / 256)
    method = new_method()
    theirs = MainLars([parameter.detach().clone() for parameter in method.parameters()])
    optimizer = new_optimizer(method, settings)
    for step in range(5):
        gradients = [1e-4 * torch.randn_like(parameter) for parameter in method.parameters()]
        for parameter, gradient in zip(method.parameters(), gradients, strict=True):
            parameter.grad = gradient
        theirs.step([gradient / 16 for gradient in gradients], lr=settings.batch / 256 / (step + 1))
        optim.set_lr(optimizer, settings.lr / (step + 1))
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in method.parameters()], list(theirs.parameters), rtol=1e-12, atol=0)


def test_recipe_ends_at_a_thousandth_of_the_rate() -> None:
    settings = PretrainSettings(**RECIPE)
    assert settings.rate(0.0) == 0.0
    assert settings.rate(5.0) == pytest.approx(settings.lr / 2)
    assert settings.rate(10.0) == pytest.approx(settings.lr)
    assert settings.rate(999.999) == pytest.approx(settings.lr / 1000, rel=1e-4)


@pytest.mark.parametrize(
    ("field", "value"), [("projector", ()), ("projector", (8, 0)), ("projector", (8, 1)), ("redundancy_weight", -1.0)]
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
