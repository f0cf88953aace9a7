import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from leoclr.augment.views import View
from leoclr.methods import moco_v2
from leoclr.methods.contract import At, Batch, Facts
from leoclr.methods.moco_v2 import Config, Method, views
from tests.tiny_backbone import Tiny, noise

CONFIG = Config(queue_size=20, dim=6, momentum=0.9)
FACTS = Facts(images=5, classes=2)
STEPS = 20


def new_method() -> Method:
    torch.manual_seed(0)
    return Method(CONFIG, Tiny, FACTS).double()


class BuilderTranscript:
    """moco/builder.py in its own order, for one worker, where shuffling does nothing."""

    def __init__(self, method: Method) -> None:
        self.encoder_q = copy.deepcopy(nn.Sequential(method.backbone, method.head))
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        self.queue_DK, self.pointer = method.queue.keys_KD.T.clone(), 0

    def step(self, query_NCHW: Tensor, key_NCHW: Tensor) -> Tensor:
        q = functional.normalize(self.encoder_q(query_NCHW), dim=1)
        with torch.no_grad():
            for param_q, param_k in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
                param_k.copy_(param_k * CONFIG.momentum + param_q * (1.0 - CONFIG.momentum))
            k = functional.normalize(self.encoder_k(key_NCHW), dim=1)
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        logits = torch.cat([positive, torch.einsum("nc,ck->nk", q, self.queue_DK.clone())], dim=1) / CONFIG.temperature
        self.queue_DK[:, self.pointer : self.pointer + len(k)] = k.T
        self.pointer = (self.pointer + len(k)) % self.queue_DK.shape[1]
        return functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def test_twenty_steps_equal_mocos_builder_weight_for_weight() -> None:
    method = new_method()
    theirs = BuilderTranscript(method)
    ours_sgd = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.03, 0.9, weight_decay=1e-4)
    theirs_sgd = torch.optim.SGD(theirs.encoder_q.parameters(), 0.03, 0.9, weight_decay=1e-4)
    for step in range(STEPS):
        query_NCHW, key_NCHW = noise(step, view=0), noise(step, view=1)
        method.before_step(At(step, total=STEPS, epoch=0, epochs=1))
        done = method(Batch((query_NCHW, key_NCHW)))
        expected = theirs.step(query_NCHW, key_NCHW)
        torch.testing.assert_close(done.loss, expected, rtol=1e-9, atol=0)
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


def test_gradient_reaches_the_trained_encoder_only() -> None:
    method = new_method()
    done = method(Batch((noise(0, view=0), noise(0, view=1))))
    done.loss.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() > 0 for p in method.head.parameters())
    assert all(p.grad is not None for p in method.backbone.parameters())
    assert all(p.grad is None for p in method.slow.parameters())
    assert not any(key_ND.requires_grad for key_ND in done.keys)


def test_parts_of_a_batch_have_their_own_norm_and_a_shuffle_crosses_them() -> None:
    """The demo's single GPU: query and key of an image are normalized in the company of other images."""
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
    keys = []
    for shuffle_bn in (False, True):
        torch.manual_seed(0)
        method = Method(replace(CONFIG, bn_splits=2, shuffle_bn=shuffle_bn), Tiny, FACTS).double()
        method.before_step(At(3, total=9, epoch=0, epochs=1))
        keys.append(method(Batch((images_NCHW, images_NCHW))).keys[0])
    parts = nn.Sequential(method.slow.backbone, method.slow.head)
    assert not torch.allclose(*keys)
    order_N = torch.randperm(8, generator=torch.Generator().manual_seed(3 * 2))
    shuffled_ND = functional.normalize(parts(images_NCHW[order_N]), dim=1)
    torch.testing.assert_close(keys[1][order_N], shuffled_ND)


def test_watch_tells_collapse() -> None:
    same_ND = functional.normalize(torch.ones(4, 6), dim=1)
    assert {name: value.item() for name, value in moco_v2.watch(same_ND, (same_ND, -same_ND))} == {
        "positive_similarity": pytest.approx(0.0, abs=1e-6),
        "query_spread": pytest.approx(0.0, abs=1e-6),
    }


def test_views_are_two_crops_with_aug_plus() -> None:
    assert views(Config(), 224) == (View(size=224), View(size=224))
    strong = views(Config(crop_scale=(0.08, 1.0), blur_p=0.0), 32)
    assert strong == (View(size=32, crop_scale=(0.08, 1.0), blur_p=0.0),) * 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("momentum", 1.1),
        ("queue_size", 0),
        ("dim", 0),
        ("bn_splits", 0),
        ("head", "mpl"),
        ("crop_scale", (0.5, 0.2)),
        ("crop_scale", (0.5, 1.2)),
        ("crop_ratio", (0.0, 1.0)),
        ("blur_sigma", (0.1,)),
        ("jitter", (0.4, 0.4, 0.4)),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("jitter_p", -0.1),
        ("gray_p", 1.1),
        ("blur_p", 2.0),
        ("flip_p", float("nan")),
    ],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
