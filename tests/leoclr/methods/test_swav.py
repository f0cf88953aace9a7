import copy
from dataclasses import replace

import pytest
import torch
from lightly.loss import SwaVLoss
from torch import Tensor, nn
from torch.nn import functional

from leoclr.methods.contract import At, Facts
from leoclr.methods.swav import RECIPE, Config, Method, views
from leoclr.pretrain_settings import PretrainSettings
from tests.tiny_backbone import Tiny, multicrop

CONFIG = Config(prototypes=7, hidden_dim=8, dim=5, small_crops=2, freeze_steps=3, queue_size=12, queue_from=1)
STEPS, PER_EPOCH, IMAGES = 12, 4, 4


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, Facts(images=16, classes=2)).double()


def at(step: int) -> At:
    return At(step, total=STEPS, epoch=step // PER_EPOCH, epochs=STEPS // PER_EPOCH)


class MainTranscript:
    """main_swav.py on one process: its own order, its queue that grows from the front, its Sinkhorn."""

    def __init__(self, method: Method) -> None:
        self.model = copy.deepcopy(nn.ModuleList([method.backbone, method.head, method.prototypes]))
        self.queue: Tensor | None = None
        self.use_the_queue = False

    def step(self, iteration: int, inputs: tuple[Tensor, ...]) -> Tensor:
        if iteration // PER_EPOCH >= CONFIG.queue_from and self.queue is None:
            self.queue = torch.zeros(2, CONFIG.queue_size, CONFIG.dim, dtype=torch.float64)
        backbone, head, prototypes = self.model
        with torch.no_grad():
            prototypes.weight.copy_(functional.normalize(prototypes.weight.clone(), dim=1, p=2))
        rows = torch.cat([backbone(torch.cat(inputs[:2])), backbone(torch.cat(inputs[2:]))])
        embedding = functional.normalize(head(rows), dim=1, p=2)
        output, embedding, bs = prototypes(embedding), embedding.detach(), len(inputs[0])
        loss = torch.zeros((), dtype=torch.float64)
        for i in (0, 1):
            with torch.no_grad():
                out = output[bs * i : bs * (i + 1)].detach()
                if self.queue is not None:
                    if self.use_the_queue or not torch.all(self.queue[i, -1, :] == 0):
                        self.use_the_queue = True
                        out = torch.cat((torch.mm(self.queue[i], prototypes.weight.t()), out))
                    self.queue[i, bs:] = self.queue[i, :-bs].clone()
                    self.queue[i, :bs] = embedding[i * bs : (i + 1) * bs]
                q = self.sinkhorn(out)[-bs:]
            subloss = torch.zeros((), dtype=torch.float64)
            for v in {0, 1, 2, 3} - {i}:
                x = output[bs * v : bs * (v + 1)] / CONFIG.temperature
                subloss -= torch.mean(torch.sum(q * functional.log_softmax(x, dim=1), dim=1))
            loss += subloss / 3
        return loss / 2

    @staticmethod
    def sinkhorn(out: Tensor) -> Tensor:
        q = torch.exp(out / CONFIG.epsilon).t()
        q /= torch.sum(q)
        for _ in range(CONFIG.iterations):
            q /= torch.sum(q, dim=1, keepdim=True)
            q /= q.shape[0]
            q /= torch.sum(q, dim=0, keepdim=True)
            q /= q.shape[1]
        return (q * q.shape[1]).t()


def test_twelve_steps_equal_main_swav_weight_for_weight() -> None:
    method = new_method()
    theirs = MainTranscript(method)
    ours_sgd = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    theirs_sgd = torch.optim.SGD(theirs.model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for step in range(STEPS):
        method.before_step(at(step))
        done = method(multicrop(step))
        expected = theirs.step(step, multicrop(step).views)
        torch.testing.assert_close(done.loss, expected, rtol=1e-9, atol=0)
        ours_sgd.zero_grad()
        theirs_sgd.zero_grad()
        done.loss.backward()
        expected.backward()
        method.after_backward(at(step))
        if step < CONFIG.freeze_steps:
            theirs.model[2].weight.grad = None
        ours_sgd.step()
        theirs_sgd.step()
        method.update(done)
    ours = nn.ModuleList([method.backbone, method.head, method.prototypes]).state_dict()
    torch.testing.assert_close(ours, theirs.model.state_dict(), rtol=1e-8, atol=1e-12)
    assert theirs.use_the_queue  # it was full before the end, so that its path was compared too


def test_loss_equals_lightlys() -> None:
    method = new_method(replace(CONFIG, queue_size=0))
    method.before_step(at(0))
    outputs: list[Tensor] = []
    method.prototypes.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    loss = method(multicrop(0)).loss
    first, second, third, fourth = outputs[0].chunk(4)
    theirs = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)([first, second], [third, fourth])
    torch.testing.assert_close(loss, theirs.squeeze(), rtol=1e-6, atol=0)


def test_the_queue_counts_when_it_is_full_and_not_before() -> None:
    method = new_method()
    used = []
    for step in range(STEPS):
        method.before_step(at(step))
        used.append(method._is_full(IMAGES))
        method.update(method(multicrop(step)))
    # filled from epoch 1, step 4; 12 embeddings of 4 images are 3 pushes
    assert used == [False] * 7 + [True] * 5


def test_prototypes_have_unit_length_at_a_step_and_rest_at_the_start() -> None:
    method = new_method()
    with torch.no_grad():
        method.prototypes.weight.mul_(3)
    for step, frozen in ((CONFIG.freeze_steps - 1, True), (CONFIG.freeze_steps, False)):
        method.before_step(at(step))
        torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(7, dtype=torch.float64))
        method(multicrop(step)).loss.backward()
        method.after_backward(at(step))
        assert (method.prototypes.weight.grad is None) is frozen


def test_views_are_two_large_and_six_small_crops() -> None:
    shown = views(Config(), 224)
    assert [view.size for view in shown] == [224] * 2 + [96] * 6
    assert [view.crop_scale for view in shown] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    assert {view.jitter for view in shown} == {(0.8, 0.8, 0.8, 0.2)}


def test_recipe_rises_from_the_published_rate_and_ends_at_it() -> None:
    settings = PretrainSettings(**RECIPE)
    assert settings.rate(0) == pytest.approx(0.3)
    assert settings.rate(800) == pytest.approx(0.0048)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("epsilon", 0.0), ("prototypes", 0), ("queue_size", -1), ("small_crop_scale", (0.5, 0.2))],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
