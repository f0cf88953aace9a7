import copy
import math

import pytest
import torch
from torch import Tensor, nn

from leoclr import optim
from leoclr.augment.views import View
from leoclr.methods.contract import Batch, Facts
from leoclr.methods.simsiam import RECIPE, Config, Method, views
from leoclr.pretrain_settings import PretrainSettings
from tests.tiny_backbone import Tiny, noise

CONFIG = Config(dim=8, predictor_dim=3)
STEPS, RATE = 10, 0.05


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, Facts(images=5, classes=2)).double()


class BuilderTranscript(nn.Module):
    """simsiam/builder.py, with the untrained bias that it keeps in front of its last batch norm."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(method.backbone)
        prev_dim, dim, pred_dim = Tiny.feature_dim, CONFIG.dim, CONFIG.predictor_dim
        self.fc = nn.Sequential(
            nn.Linear(prev_dim, prev_dim, bias=False),
            nn.BatchNorm1d(prev_dim),
            nn.ReLU(inplace=True),
            nn.Linear(prev_dim, prev_dim, bias=False),
            nn.BatchNorm1d(prev_dim),
            nn.ReLU(inplace=True),
            nn.Linear(prev_dim, dim),
            nn.BatchNorm1d(dim, affine=False),
        ).double()
        self.fc[6].bias.requires_grad = False
        self.predictor = nn.Sequential(
            nn.Linear(dim, pred_dim, bias=False),
            nn.BatchNorm1d(pred_dim),
            nn.ReLU(inplace=True),
            nn.Linear(pred_dim, dim),
        ).double()
        self.fc.load_state_dict(method.head.state_dict(), strict=False)
        self.predictor.load_state_dict(method.predictor.state_dict(), strict=True)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return the loss as main_simsiam.py computes it."""
        z1, z2 = self.fc(self.backbone(x1)), self.fc(self.backbone(x2))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        criterion = nn.CosineSimilarity(dim=1)
        loss: Tensor = -(criterion(p1, z2.detach()).mean() + criterion(p2, z1.detach()).mean()) * 0.5
        return loss


def test_ten_steps_equal_builder_and_main_weight_for_weight() -> None:
    method = new_method()
    theirs = BuilderTranscript(method)
    encoder = [p for module in (theirs.backbone, theirs.fc) for p in module.parameters()]
    their_groups = [{"params": encoder, "fix_lr": False}, {"params": theirs.predictor.parameters(), "fix_lr": True}]
    their_sgd = torch.optim.SGD(their_groups, RATE, momentum=0.9, weight_decay=1e-4)
    our_sgd = torch.optim.SGD(list(method.groups()), RATE, momentum=0.9, weight_decay=1e-4)
    for step in range(STEPS):
        images, rate = (noise(step, view=0), noise(step, view=1)), RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in their_sgd.param_groups:
            group["lr"] = RATE if group["fix_lr"] else rate
        optim.set_lr(our_sgd, rate, fixed=RATE)
        ours, expected = method(Batch(images)).loss, theirs(*images)
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)
        for loss, sgd in ((ours, our_sgd), (expected, their_sgd)):
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    pairs = ((method.backbone, theirs.backbone), (method.head, theirs.fc), (method.predictor, theirs.predictor))
    for our_part, their_part in pairs:
        expected_weights = {name: p.detach() for name, p in their_part.named_parameters() if p.requires_grad}
        torch.testing.assert_close(dict(our_part.named_parameters()), expected_weights, rtol=1e-7, atol=1e-10)


def test_targets_pass_no_gradient() -> None:
    """Without the stop, backbone and projector would get another gradient: compare with targets given as numbers."""
    method = new_method()
    images = noise(0, view=0), noise(0, view=1)
    method(Batch(images)).loss.backward()
    gradient = [p.grad.clone() for p in method.backbone.parameters() if p.grad is not None]
    numbers = [torch.tensor(method.head(method.backbone(view)).tolist(), dtype=torch.float64) for view in images]
    method.zero_grad()
    predictions = [method.predictor(method.head(method.backbone(view))) for view in images]
    cosine = nn.CosineSimilarity(dim=1)
    (-(cosine(predictions[0], numbers[1]).mean() + cosine(predictions[1], numbers[0]).mean()) / 2).backward()
    assert len(gradient) == len(list(method.backbone.parameters()))
    torch.testing.assert_close([p.grad for p in method.backbone.parameters()], gradient, rtol=1e-9, atol=1e-12)


def test_predictors_rate_follows_the_schedule_where_it_is_told_to() -> None:
    marks = [group["fixed_rate"] for group in new_method().groups()[1:]]
    follows = new_method(Config(dim=8, predictor_dim=3, constant_predictor_rate=False)).groups()
    assert marks == [True]
    assert not any(group.get("fixed_rate", False) for group in follows)


def test_projector_has_as_many_layers_as_asked_for() -> None:
    for layers in (1, 2, 3):
        head = new_method(Config(dim=8, predictor_dim=3, projector_layers=layers)).head
        widths = [layer.out_features for layer in head if isinstance(layer, nn.Linear)]
        assert widths == [6] * (layers - 1) + [8]


def test_watch_tells_collapse() -> None:
    method = new_method()
    images = noise(0, view=0), noise(0, view=1)
    seen = dict(method(Batch(images)).watch)
    assert seen["positive_similarity"].item() == pytest.approx(-method(Batch(images)).loss.item())
    assert seen["embedding_spread"].item() > 0.5
    same = noise(0, view=0)[:1].expand(5, -1, -1, -1)
    assert dict(method(Batch((same, same))).watch)["embedding_spread"].item() == pytest.approx(0.0, abs=1e-6)


def test_views_are_moco_v2s_and_the_rate_is_for_the_batch() -> None:
    assert views(Config(), 224) == (View(size=224), View(size=224))
    settings = PretrainSettings(**RECIPE)
    assert settings.lr == pytest.approx(0.05 * settings.batch / 256)
    assert (settings.weight_decay, settings.decay_vectors, settings.rate_moves) == (1e-4, True, "epoch")


@pytest.mark.parametrize("field", ["dim", "predictor_dim", "projector_layers"])
def test_config_names_the_field_that_is_out_of_range(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be at least 1"):
        Config(**{field: 0})
