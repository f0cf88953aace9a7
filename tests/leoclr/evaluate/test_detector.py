"""The detector is made of the backbone's own layers, in the shape of R50-C4."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from leoclr import backbones
from leoclr.backbones import Stem
from leoclr.evaluate.boxes import grid_anchors
from leoclr.evaluate.detector import Detector
from leoclr.evaluate.detector_settings import DetectorSettings

SETTINGS = DetectorSettings(anchor_sizes=(8, 16), anchor_ratios=(1.0,), pool=4, score_min=0.0, proposals=(20, 10))


def detector() -> tuple[backbones.Backbone, Detector]:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    return backbone, Detector(backbone, 3, settings=SETTINGS)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar", "stride2"])
def test_every_parameter_of_the_backbone_is_trained_in_place(name: str, stem: Stem) -> None:
    torch.manual_seed(0)
    backbone = backbones.build(name, width=2, stem=stem)
    net = Detector(backbone, 3, settings=SETTINGS)
    images = [torch.rand(3, 32, 32), torch.rand(3, 24, 40)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 14.0, 16.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},  # a scene may be empty
    ]
    losses = net(images, targets)
    assert list(losses) == ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"]
    torch.stack(list(losses.values())).sum().backward()
    missing = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert missing == []
    assert {id(p) for p in backbone.parameters()} < {id(p) for p in net.parameters()}


def test_regions_go_through_layer4_an_extra_norm_and_a_mean() -> None:
    backbone, net = detector()
    net.eval()
    image_NCHW = torch.rand(1, 3, 32, 32)
    maps = backbone.layer3(backbone.layer2(backbone.layer1(backbone.relu(backbone.bn1(backbone.conv1(image_NCHW))))))
    assert maps.shape[-1] == 32 // backbone.reduction
    box = torch.tensor([[3.0, 5.0, 20.0, 30.0]])
    cut = roi_align(maps, [box], (4, 4), spatial_scale=1 / backbone.reduction, aligned=True)
    norm = net.regions.norm
    nn.init.constant_(norm.weight, 3.0)
    nn.init.normal_(net.regions.scores.weight)
    expected = net.regions.scores(norm(backbone.layer4(cut)).mean(dim=(2, 3))).softmax(1)
    found = net.regions.detect(net.trunk(image_NCHW), [box], [(32, 32)])[0]
    torch.testing.assert_close(found["scores"], expected[0, 1:].sort(descending=True).values)


def test_the_stride_is_the_trunks_whatever_the_size_of_the_image() -> None:
    _, net = detector()
    net.eval()
    seen: list[torch.Tensor] = []
    net.proposals.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    net.detect([torch.rand(3, 33, 47)])
    height, width = seen[0].shape[-2:]
    assert (height, width) == (5, 6)  # ceilings of 33 / 8 and 47 / 8
    anchors_A4 = grid_anchors(net.proposals.cell_K4, height=height, width=width, stride=net.proposals._stride)
    assert (anchors_A4[:, :2] + anchors_A4[:, 2:]).div(2).amax(0).tolist() == [40, 32]


def test_padding_is_zero_after_normalization() -> None:
    _, net = detector()
    net.eval()
    seen: list[torch.Tensor] = []
    net.trunk.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    small, wide = torch.rand(3, 32, 32) + 1, torch.rand(3, 24, 40) + 1
    net.detect([small, wide])
    batch_NCHW = seen[0]
    assert batch_NCHW.shape == (2, 3, 32, 40)
    assert torch.equal(batch_NCHW[0, :, :, :32], small)
    assert torch.equal(batch_NCHW[1, :, :24], wide)
    assert not batch_NCHW[0, :, :, 32:].any()
    assert not batch_NCHW[1, :, 24:].any()


def test_detections_lie_in_their_image_and_fall_in_score() -> None:
    _, net = detector()
    net.eval()
    with torch.no_grad():
        small, wide = net.detect([torch.rand(3, 32, 32), torch.rand(3, 24, 40)])
    for found, (height, width) in ((small, (32, 32)), (wide, (24, 40))):
        assert 0 < len(found["boxes"]) <= SETTINGS.detections
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert (found["scores"].diff() <= 0).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("field", "value"), [("pool", 0), ("anchor_sizes", ()), ("proposals", (0, 5)), ("nms", 1.5), ("score_min", -0.1)]
)
def test_settings_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        DetectorSettings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
