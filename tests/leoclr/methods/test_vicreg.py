import copy

import pytest
import torch
from lightly.loss import VICRegLoss
from torch import nn

from leoclr.methods.contract import Batch, Facts
from leoclr.methods.vicreg import RECIPE, Config, Method, views
from leoclr.pretrain_settings import PretrainSettings
from tests.tiny_backbone import Tiny, noise

CONFIG = Config(expander=(7, 4))
IMAGES = noise(0, view=0), noise(0, view=1)


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, Facts(images=5, classes=2)).double()


def test_loss_and_gradients_are_those_of_lightlys_loss() -> None:
    method = new_method()
    theirs = copy.deepcopy(method)
    done = method(Batch(IMAGES))
    expected = VICRegLoss()(*(theirs.head(theirs.backbone(view)) for view in IMAGES))
    torch.testing.assert_close(done.loss, expected)
    done.loss.backward()
    expected.backward()
    ours = [parameter.grad for parameter in method.parameters()]
    torch.testing.assert_close(ours, [p.grad for p in theirs.parameters()], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance_views", ["mean", "sum"])
def test_watch_splits_the_loss(variance_views: str) -> None:
    config = Config(
        expander=(7, 4),
        invariance_weight=3.0,
        variance_weight=5.0,
        covariance_weight=7.0,
        variance_views=variance_views,
    )
    done = new_method(config)(Batch(IMAGES))
    seen = {name: value.item() for name, value in done.watch}
    assert done.loss.item() == pytest.approx(3 * seen["invariance"] + 5 * seen["variance"] + 7 * seen["covariance"])
    assert seen["deviation"] > 0


def test_paper_sums_the_views_variance_terms_and_the_code_takes_their_mean() -> None:
    halved, summed = (
        dict(new_method(Config(expander=(7, 4), variance_views=v))(Batch(IMAGES)).watch) for v in ("mean", "sum")
    )
    torch.testing.assert_close(2 * halved["variance"], summed["variance"])
    assert halved["variance"].item() > 0.1


def test_expander_is_mains() -> None:
    head = new_method().head
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [layer.bias is not None for layer in head if isinstance(layer, nn.Linear)] == [True, False]
    assert Config().expander == (8192, 8192, 8192)


def test_views_are_a_pair_and_the_rate_is_for_the_batch() -> None:
    first, second = views(Config(), 224)
    assert (first.blur_p, second.blur_p) == (1.0, 0.1)
    settings = PretrainSettings(**RECIPE)
    assert settings.lr == pytest.approx(0.2 * settings.batch / 256)
    assert settings.rate(999.999) == pytest.approx(0.0016, rel=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expander", ()),
        ("expander", (8, 0)),
        ("expander", (8, 1)),
        ("invariance_weight", -1.0),
        ("variance_weight", -1.0),
        ("covariance_weight", -1.0),
        ("variance_views", "both"),
        ("epsilon", 0.0),
    ],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
