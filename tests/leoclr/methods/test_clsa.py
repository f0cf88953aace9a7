import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.heads import embed
from leoclr.methods import moco_v2
from leoclr.methods.clsa import Config, Method, views
from leoclr.methods.contract import At, Batch
from tests.small_methods import FACTS
from tests.tiny_backbone import Tiny

MULTI = Config(
    queue_size=20, dim=6, momentum=0.9, variant="multi", pick_weak=(0, 1), pick_strong=(0, 2, 4), strong_temperature=0.3
)
SINGLE = Config(queue_size=20, dim=6, momentum=0.9)
STEPS = 20


def new_method(config: Config = SINGLE) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, FACTS).double()


def batch(config: Config, step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    sizes = [view.size for view in views(config, 16)]
    return Batch(tuple(torch.randn(5, 3, each, each, generator=generator, dtype=torch.float64) for each in sizes))


class Transcript:
    """model/CLSA.py (sym=0) and the loss of training/train.py in their own order, for one worker, without shuffling."""

    def __init__(self, method: Method, config: Config) -> None:
        self.encoder_q = copy.deepcopy(nn.Sequential(method.backbone, method.head))
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        self.queue_DK, self.pointer, self.config = method.queue.keys_KD.T.clone(), 0, config

    def step(self, im_k: Tensor, im_q_list: list[Tensor], im_strong_list: list[Tensor]) -> Tensor:
        q_list = [functional.normalize(self.encoder_q(im_q), dim=1) for im_q in im_q_list]
        q_strong_list = [functional.normalize(self.encoder_q(im_strong), dim=1) for im_strong in im_strong_list]
        with torch.no_grad():
            for param_q, param_k in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
                param_k.copy_(param_k * self.config.momentum + param_q * (1.0 - self.config.momentum))
            k = functional.normalize(self.encoder_k(im_k), dim=1)
        contrastive, weak_strong = torch.zeros(()), torch.zeros(())
        for q in q_list:
            logits = self.cosines(q, k) / self.config.temperature
            contrastive = contrastive + functional.cross_entropy(logits, torch.arange(len(k)))
            labels0 = logits.clone().detach() * self.config.temperature / self.config.strong_temperature
            target = torch.softmax(labels0, dim=1)
            for q_strong in q_strong_list:
                output = torch.softmax(self.cosines(q_strong, k) / self.config.strong_temperature, dim=1)
                weak_strong = weak_strong - torch.mean(torch.sum(torch.log(output) * target, dim=1))
        self.queue_DK[:, self.pointer : self.pointer + len(k)] = k.T
        self.pointer = (self.pointer + len(k)) % self.queue_DK.shape[1]
        return contrastive + self.config.strong_weight * weak_strong

    def cosines(self, q: Tensor, k: Tensor) -> Tensor:
        l_pos, l_neg = torch.einsum("nc,ck->nk", q, k.T), torch.einsum("nc,ck->nk", q, self.queue_DK.clone())
        return torch.cat([l_pos, l_neg], dim=1)


@pytest.mark.parametrize("config", [SINGLE, replace(MULTI, strong_weight=0.7)], ids=["single", "multi"])
def test_twenty_steps_equal_the_codes_model_weight_for_weight(config: Config) -> None:
    method = new_method(config)
    theirs = Transcript(method, config)
    count = len(config.picks()[0])
    ours_sgd = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.03, 0.9, weight_decay=1e-4)
    theirs_sgd = torch.optim.SGD(theirs.encoder_q.parameters(), 0.03, 0.9, weight_decay=1e-4)
    for step in range(STEPS):
        method.before_step(At(step, total=STEPS, epoch=0, epochs=1))
        done = method(batch(config, step))
        key, *queries = batch(config, step).views
        expected = theirs.step(key, queries[:count], queries[count:])
        torch.testing.assert_close(done.loss, expected, rtol=1e-9, atol=0, check_dtype=False)
        for loss, optimizer in ((done.loss, ours_sgd), (expected, theirs_sgd)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        method.update(done)
    trained = nn.Sequential(method.backbone, method.head).state_dict()
    slow = nn.Sequential(method.slow.backbone, method.slow.head).state_dict()
    torch.testing.assert_close(trained, theirs.encoder_q.state_dict(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(slow, theirs.encoder_k.state_dict(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(method.queue.keys_KD, theirs.queue_DK.T, rtol=1e-9, atol=1e-12)


def likelihoods(query_D: Tensor, key_D: Tensor, memory_KD: Tensor, temperature: float) -> list[Tensor]:
    """The paper's p(.|z) over the own key and the queue, in a loop."""
    scores = [(query_D @ other_D / temperature).exp() for other_D in [key_D, *memory_KD]]
    return [score / sum(scores) for score in scores]


def test_own_bank_equals_the_papers_equations() -> None:
    config = replace(MULTI, bank="own", pick_weak=(0,), strong_temperature=0.2)
    method = new_method(config)
    key, weak, *strong = batch(config, 0).views
    memory_KD = method.queue.keys_KD
    key_ND, weak_ND = method.slow(key, view=0), embed(method.backbone, method.head, weak)
    expected = torch.zeros((), dtype=torch.float64)
    for i in range(5):
        chances = likelihoods(weak_ND[i], key_ND[i], memory_KD, 0.2)
        expected = expected - chances[0].log() / 5  # eq. (1)
        for image in strong:
            strong_D = embed(method.backbone, method.head, image)[i]
            others = likelihoods(strong_D, key_ND[i], memory_KD, 0.2)
            expected = expected - sum(p * q.log() for p, q in zip(chances, others, strict=True)) / 5  # eq. (4)
    torch.testing.assert_close(method(batch(config, 0)).loss, expected, rtol=1e-10, atol=0)


def test_contrastive_loss_on_strong_queries_is_that_of_weak_ones() -> None:
    method = new_method(replace(SINGLE, strong_loss="contrastive", strong_weight=0.5, bank="own"))
    plain = moco_v2.Method(moco_v2.Config(queue_size=20, dim=6), Tiny, FACTS).double()
    plain.load_state_dict(method.state_dict())
    key, weak, strong = batch(SINGLE, 0).views
    expected = plain(Batch((weak, key))).loss + 0.5 * plain(Batch((strong, key))).loss
    torch.testing.assert_close(method(batch(SINGLE, 0)).loss, expected, rtol=1e-10, atol=0)


def test_without_strong_queries_and_foreign_keys_it_is_moco_v2() -> None:
    method = new_method(replace(SINGLE, pick_strong=(), bank="own"))
    plain = moco_v2.Method(moco_v2.Config(queue_size=20, dim=6), Tiny, FACTS).double()
    plain.load_state_dict(method.state_dict())
    key, weak, _ = batch(SINGLE, 0).views
    torch.testing.assert_close(method(Batch((key, weak))).loss, plain(Batch((weak, key))).loss, rtol=1e-10, atol=0)


def gradients(config: Config) -> list[Tensor | None]:
    """Return the gradient of the key's view, then of the weak and of the strong queries' views."""
    shown = [view.requires_grad_() for view in batch(config, 0).views]
    method = new_method(config)
    done = method(Batch(tuple(shown)))
    done.loss.backward()
    assert all(parameter.grad is None for parameter in method.slow.parameters())
    assert not done.keys[0].requires_grad
    return [view.grad for view in shown]


def test_ddm_pulls_strong_queries_and_leaves_weak_ones_and_keys() -> None:
    key, first, second, *strong = gradients(MULTI)
    alone = gradients(replace(MULTI, strong_weight=0.0))
    assert key is None
    torch.testing.assert_close([first, second], alone[1:3], rtol=1e-10, atol=1e-14)
    assert all(each is not None and each.any() for each in strong)
    assert not any(each is not None and each.any() for each in alone[3:])


def test_watch_tells_both_parts() -> None:
    done = new_method(replace(MULTI, strong_weight=0.7))(batch(MULTI, 0))
    watched = dict(done.watch)
    torch.testing.assert_close(watched["contrastive"] + 0.7 * watched["strong"], done.loss.detach())


def test_views_are_the_codes_for_imagenet() -> None:
    key = View(size=224)
    small = View(size=96, crop_scale=(0.086, 0.429), strong="code")
    assert views(Config(), 224) == (key, key, small)  # cmd/run_single.sh
    sizes, low, high = (224, 192, 160, 128, 96), (0.2, 0.172, 0.143, 0.114, 0.086), (1.0, 0.86, 0.715, 0.571, 0.429)
    weak = [View(size=size, crop_scale=(a, b)) for size, a, b in zip(sizes, low, high, strict=True)]
    strong = [replace(view, strong="code", strong_picks=5, strong_p=0.5) for view in weak]
    assert views(Config(variant="multi"), 224) == (key, *weak, *strong)  # cmd/run_multi.sh


def test_the_papers_choices_and_other_sizes() -> None:
    config = Config(variant="multi", pick_weak=(0,), strong_pool="paper", strong_picks=3, strong_p=1.0)
    listed = views(config, 32)
    assert [view.size for view in listed] == [32, 32, 32, 27, 23, 18, 14]
    assert [view.strong for view in listed] == ["none"] * 2 + ["paper"] * 5
    assert {(view.strong_picks, view.strong_p) for view in listed[2:]} == {(3, 1.0)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "double"),
        ("bank", "queue"),
        ("strong_loss", "mse"),
        ("strong_pool", "both"),
        ("pick_weak", (0, 5)),
        ("pick_weak", ()),
        ("pick_strong", (1, 1)),
        ("strong_weight", -1.0),
        ("strong_temperature", 0.0),
        ("strong_picks", 0),
        ("strong_p", 1.5),
        ("temperature", 0.0),
    ],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
