import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightly.loss import DINOLoss
from torch import Tensor, nn
from torch.nn import functional

from leoclr.methods.contract import At, Facts
from leoclr.methods.dino import RECIPE, Config, Head, Method, views
from leoclr.pretrain_settings import PretrainSettings
from tests.tiny_backbone import Tiny, multicrop

CONFIG = Config(
    dim=9,
    hidden_dim=8,
    bottleneck_dim=5,
    small_crops=2,
    momentum=0.9,
    clip=0.05,
    first_teacher_temperature=0.03,
    teacher_temperature=0.05,
    teacher_warmup_epochs=3,
)
STEPS, PER_EPOCH = 12, 3


def new_method(config: Config = CONFIG) -> Method:
    torch.manual_seed(0)
    return Method(config, Tiny, Facts(images=12, classes=2)).double()


def at(step: int) -> At:
    return At(step, total=STEPS, epoch=step // PER_EPOCH, epochs=STEPS // PER_EPOCH)


class MainTranscript:
    """main_dino.py, utils.py and DINOHead on one process, with torch's own weight norm in the last layer."""

    def __init__(self, method: Method) -> None:
        self.student = nn.ModuleList([copy.deepcopy(method.backbone), self.head(method.head)])
        self.teacher = copy.deepcopy(self.student)
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False
        self.center = torch.zeros(1, CONFIG.dim, dtype=torch.float64)
        trained = [p for p in self.student.parameters() if p.requires_grad]
        self.sgd = torch.optim.SGD(trained, 0.1, momentum=0.9)

    @staticmethod
    def head(ours: Head) -> nn.Sequential:
        last = nn.Linear(CONFIG.bottleneck_dim, CONFIG.dim, bias=False).double()
        last.weight = nn.Parameter(ours.last_PD.detach().clone())
        last = nn.utils.parametrizations.weight_norm(last)
        with torch.no_grad():
            last.parametrizations.weight.original0.fill_(1)
        last.parametrizations.weight.original0.requires_grad = False
        return nn.Sequential(copy.deepcopy(ours.mlp), last)

    @staticmethod
    def forward(model: nn.ModuleList, x: tuple[Tensor, ...]) -> Tensor:
        backbone, head = model
        sizes = [inp.shape[-1] for inp in x]
        output = torch.cat([backbone(torch.cat([v for v in x if v.shape[-1] == s])) for s in dict.fromkeys(sizes)])
        return head[1](functional.normalize(head[0](output), dim=-1, p=2))

    def step(self, it: int, images: tuple[Tensor, ...]) -> Tensor:
        epoch, warmup = it // PER_EPOCH, CONFIG.teacher_warmup_epochs
        temps = np.linspace(CONFIG.first_teacher_temperature, CONFIG.teacher_temperature, warmup).tolist()
        temp = [*temps, *[CONFIG.teacher_temperature] * (STEPS // PER_EPOCH - warmup)][epoch]
        teacher_output, student_output = self.forward(self.teacher, images[:2]), self.forward(self.student, images)
        student_out = (student_output / CONFIG.student_temperature).chunk(4)
        teacher_out = functional.softmax((teacher_output - self.center) / temp, dim=-1).detach().chunk(2)
        terms = [
            torch.sum(-q * functional.log_softmax(student_out[v], dim=-1), dim=-1).mean()
            for iq, q in enumerate(teacher_out)
            for v in range(4)
            if v != iq
        ]
        loss = sum(terms[1:], terms[0]) / len(terms)
        self.center = self.center * 0.9 + teacher_output.mean(dim=0, keepdim=True) * (1 - 0.9)
        self.sgd.zero_grad()
        loss.backward()
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                clip_coef = CONFIG.clip / (parameter.grad.norm(2) + 1e-6)
                if clip_coef < 1:
                    parameter.grad.mul_(clip_coef)
        if epoch < CONFIG.freeze_epochs:
            for parameter in self.student[1][1].parameters():
                parameter.grad = None
        self.sgd.step()
        m = 1 + 0.5 * (CONFIG.momentum - 1) * (1 + math.cos(math.pi * it / STEPS))
        with torch.no_grad():
            for param_q, param_k in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                param_k.mul_(m).add_((1 - m) * param_q.detach())
        return loss.detach()


def test_twelve_steps_equal_main_dino_weight_for_weight() -> None:
    method = new_method()
    theirs = MainTranscript(method)
    sgd = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1, momentum=0.9)
    for step in range(STEPS):
        method.before_step(at(step))
        done = method(multicrop(step))
        expected = theirs.step(step, multicrop(step).views)
        torch.testing.assert_close(done.loss.detach(), expected, rtol=1e-9, atol=0)
        sgd.zero_grad()
        done.loss.backward()
        method.after_backward(at(step))
        sgd.step()
        method.update(done)
    torch.testing.assert_close(method.center_1P, theirs.center, rtol=1e-9, atol=1e-12)
    for ours, other in ((method.teacher["backbone"], theirs.teacher[0]), (method.backbone, theirs.student[0])):
        torch.testing.assert_close(ours.state_dict(), other.state_dict(), rtol=1e-8, atol=1e-12)
    last = theirs.student[1][1].parametrizations.weight.original1
    torch.testing.assert_close(method.head.last_PD, last, rtol=1e-8, atol=1e-12)


def test_loss_equals_lightlys() -> None:
    method = new_method()
    method.center_1P.normal_(std=0.1)
    outputs: dict[str, Tensor] = {}
    for name, head in (("student", method.head), ("teacher", method.teacher["head"])):
        head.register_forward_hook(lambda _module, _inputs, output, name=name: outputs.update({name: output}))
    method.before_step(at(0))
    loss = method(multicrop(0)).loss
    theirs = DINOLoss(output_dim=9, warmup_teacher_temp=0.03, teacher_temp=0.05, warmup_teacher_temp_epochs=3).double()
    theirs.center.copy_(method.center_1P[None])
    expected = theirs(list(outputs["teacher"].chunk(2)), list(outputs["student"].chunk(4)), epoch=0)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_gradient_reaches_the_student_only() -> None:
    method = new_method()
    method(multicrop(0)).loss.backward()
    assert all(p.grad is not None for p in method.backbone.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_half_precision_does_not_round_the_center() -> None:
    method, shown = new_method().float(), multicrop(0)
    with torch.autocast("cpu", torch.bfloat16):
        done = method(replace(shown, views=tuple(view.float() for view in shown.views)))
    (mean_1P,) = done.keys
    assert mean_1P.dtype == torch.float32
    assert not torch.equal(mean_1P, mean_1P.bfloat16().float())


def test_the_teacher_is_evaluated_unless_the_student_is_asked_for() -> None:
    method = new_method()
    assert method.evaluated() is method.teacher["backbone"]
    student = new_method(replace(CONFIG, evaluate="student"))
    assert student.evaluated() is student.backbone


def test_rows_of_the_last_layer_may_have_their_own_length() -> None:
    method = new_method(replace(CONFIG, norm_last_layer=False, freeze_epochs=0))
    method(multicrop(0)).loss.backward()
    assert method.head.scale_P1.grad is not None
    assert method.head.scale_P1.grad.count_nonzero() > 0


def test_views_are_two_unlike_large_crops_and_small_ones() -> None:
    shown = views(Config(), 224)
    assert [view.size for view in shown] == [224] * 2 + [96] * 8
    assert [view.blur_p for view in shown] == [1.0, 0.1] + [0.5] * 8
    assert [view.solarize_p for view in shown] == [0.0, 0.2] + [0.0] * 8
    assert [view.crop_scale for view in shown] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 8


def test_recipe_ends_at_the_published_rate() -> None:
    settings = PretrainSettings(**RECIPE)
    assert settings.rate(10) == pytest.approx(0.06)
    assert settings.rate(100) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("teacher_temperature", 0.0), ("momentum", 1.5), ("dim", 0), ("clip", -1.0), ("evaluate", "both")],
)
def test_config_names_the_field_that_is_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Config(**{field: value})
