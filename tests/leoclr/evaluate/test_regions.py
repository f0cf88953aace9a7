"""The region heads against their formulas in float64, one region at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from leoclr.evaluate import boxes
from leoclr.evaluate.detector_settings import DetectorSettings
from leoclr.evaluate.regions import WEIGHTS, RegionHeads

MAP = torch.randn(2, 5, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SIZES = [(64, 48), (60, 40)]
PROPOSALS = [
    torch.tensor([[3.0, 5, 16, 18], [2, 6, 17, 20], [30, 30, 47, 60], [0, 0, 5, 5]]).double(),
    torch.tensor([[10.0, 12, 30, 40], [9, 12, 32, 41], [1, 1, 9, 30]]).double(),
]
TARGETS = [
    {"boxes": torch.tensor([[3.0, 4, 17, 19], [31, 28, 46, 60]]).double(), "labels": torch.tensor([2, 3])},
    {"boxes": torch.empty(0, 4).double(), "labels": torch.empty(0, dtype=torch.int64)},
]


def heads(**settings: Any) -> RegionHeads:
    torch.manual_seed(0)
    layer4 = nn.Sequential(nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.BatchNorm2d(7), nn.ReLU())
    net = RegionHeads(layer4, 7, 3, stride=8, settings=DetectorSettings(**{"pool": 4} | settings)).double()
    for layer in (net.scores, net.offsets):
        nn.init.normal_(layer.weight, std=1.0)
        nn.init.normal_(layer.bias, std=1.0)
    nn.init.uniform_(net.norm.weight)
    return net


def classify(net: RegionHeads, rows: list[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return probabilities [R, C + 1] and offsets [R, C, 4] of (image, box) pairs, in evaluation mode or not."""
    cut = [roi_align(MAP[i, None], [box[None]], 4, spatial_scale=1 / 8, aligned=True) for i, box in rows]
    features_RF = net.norm(net.layer4(torch.cat(cut))).mean(dim=(2, 3))
    return net.scores(features_RF).softmax(1), net.offsets(features_RF).view(len(rows), 3, 4)


def test_losses_equal_a_loop_over_regions() -> None:
    net = heads(regions=40, regions_positive=0.5)  # room for all: sampling leaves none out
    losses = net(MAP, PROPOSALS, TARGETS)
    rows = [(i, box) for i in (0, 1) for box in [*PROPOSALS[i], *TARGETS[i]["boxes"]]]  # objects are proposals too
    probabilities, offsets = classify(net, rows)
    surprise = error = 0.0
    right = 0
    for row, (image, box) in enumerate(rows):
        overlaps = [float(boxes.overlaps(box[None], other[None])) for other in TARGETS[image]["boxes"]]
        label = 0
        if max(overlaps, default=0.0) >= 0.5:
            mine = overlaps.index(max(overlaps))
            label = int(TARGETS[image]["labels"][mine])
            wanted = boxes.encode(box[None], TARGETS[image]["boxes"][mine][None], WEIGHTS)[0]
            error += (offsets[row, label - 1] - wanted).abs().sum()
            right += 1
        surprise -= probabilities[row, label].log()
    assert 0 < right < len(rows)
    torch.testing.assert_close(losses["loss_cls"], surprise / len(rows))
    torch.testing.assert_close(losses["loss_box_reg"], error / len(rows))


def test_a_quarter_of_the_regions_are_objects() -> None:
    net = heads(regions=4)
    seen: list[int] = []
    net.scores.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    losses = net(MAP, PROPOSALS, TARGETS)
    assert seen == [1 + 1 + 3]  # of the first image 1 of 5 at an object and its only background, of the second all 3
    assert losses["loss_box_reg"] > 0


def test_no_region_at_an_object_is_no_box_loss_but_a_gradient_of_zero() -> None:
    net = heads()
    losses = net(MAP[1:], PROPOSALS[1:], TARGETS[1:])
    assert losses["loss_box_reg"].item() == 0.0
    (losses["loss_box_reg"] + losses["loss_cls"]).backward()
    assert net.offsets.weight.grad is not None
    assert not net.offsets.weight.grad.any()


@pytest.mark.parametrize(("score_min", "most"), [(0.05, 100), (0.3, 100), (0.05, 3)])
def test_detections_equal_a_greedy_loop(score_min: float, most: int) -> None:
    net = heads(score_min=score_min, detections=most).eval()
    with torch.no_grad():
        found = net.detect(MAP, PROPOSALS, SIZES)
        for image, size in enumerate(SIZES):
            rows = [(image, box) for box in PROPOSALS[image]]
            probabilities, offsets = classify(net, rows)
            candidates = []
            for row, (_, box) in enumerate(rows):
                moved = boxes.clip(boxes.decode(offsets[row, None], box[None], WEIGHTS)[0], size)
                for c in range(3):
                    if probabilities[row, c + 1] > score_min:
                        candidates.append((float(probabilities[row, c + 1]), c + 1, moved[c]))
            kept: list[tuple[float, int, Tensor]] = []
            for score, label, box in sorted(candidates, key=lambda each: -each[0]):
                same = [other for _, theirs, other in kept if theirs == label]
                if all(boxes.overlaps(box[None], other[None]) <= 0.5 for other in same):
                    kept.append((score, label, box))
            assert len(kept) > min(most, 3) or score_min == 0.3
            assert found[image]["labels"].tolist() == [label for _, label, _ in kept[:most]]
            assert found[image]["scores"].tolist() == pytest.approx([score for score, _, _ in kept[:most]])
            torch.testing.assert_close(found[image]["boxes"], torch.stack([box for _, _, box in kept[:most]]))


def test_the_predictors_start_with_detectron2s_spread() -> None:
    torch.manual_seed(0)
    net = RegionHeads(nn.Identity(), 512, 80, stride=16, settings=DetectorSettings())
    assert net.scores.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert net.offsets.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert (net.scores.out_features, net.offsets.out_features) == (81, 320)
    assert not net.scores.bias.any()
    assert not net.offsets.bias.any()
