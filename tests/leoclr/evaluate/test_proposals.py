"""The proposal network against its formulas in float64, one anchor at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from leoclr.evaluate import boxes
from leoclr.evaluate.detector_settings import DetectorSettings
from leoclr.evaluate.proposals import ProposalNetwork

SETTINGS: dict[str, Any] = {
    "anchor_sizes": (12, 20),
    "anchor_ratios": (1.0,),
    "anchors": 2 * 8 * 6 * 2,  # room for every anchor on both sides: sampling leaves none out
    "proposals_before_nms": (40, 30),
    "proposals": (12, 9),
}
SIZES = [(64, 48), (60, 40)]
TARGETS = [
    {
        "boxes": torch.tensor([[3.0, 5.0, 16.0, 18.0], [20.0, 20.0, 38.0, 41.0]]).double(),
        "labels": torch.tensor([1, 2]),
    },
    {"boxes": torch.empty(0, 4).double(), "labels": torch.empty(0, dtype=torch.int64)},
]


def network(**settings: Any) -> ProposalNetwork:
    torch.manual_seed(0)
    net = ProposalNetwork(6, 8, settings=DetectorSettings(**SETTINGS | settings)).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # away from the start, where all anchors score alike
    return net


def head(net: ProposalNetwork, map_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits [N, A] and offsets [N, A, 4], cell by cell, with the head's own weights."""
    hidden_NCHW = functional.relu(net.head.conv[0][0](map_NCHW))
    logits_NKHW, offsets_NZHW = net.head.cls_logits(hidden_NCHW), net.head.bbox_pred(hidden_NCHW)
    _, kinds, height, width = logits_NKHW.shape
    cells = [(y, x, k) for y in range(height) for x in range(width) for k in range(kinds)]
    logits_AN = torch.stack([logits_NKHW[:, k, y, x] for y, x, k in cells])
    offsets_AN4 = torch.stack([offsets_NZHW[:, 4 * k : 4 * k + 4, y, x] for y, x, k in cells])
    return logits_AN.T, offsets_AN4.transpose(0, 1)


def test_losses_equal_a_loop_over_anchors() -> None:
    net, map_NCHW = network(), torch.randn(2, 6, 8, 6, dtype=torch.float64)
    logits_NA, offsets_NA4 = head(net, map_NCHW)
    anchors_A4 = boxes.grid_anchors(net.cell_K4, height=8, width=6, stride=8)
    surprise = error = 0.0
    for image, target in enumerate(TARGETS):
        overlap_GA = boxes.overlaps(target["boxes"], anchors_A4)
        for a, anchor in enumerate(anchors_A4):
            column = overlap_GA[:, a]
            best = any(overlap_GA[g, a] == overlap_GA[g].max() for g in range(len(column)))
            most = float(column.max()) if len(column) else 0.0
            if best or most >= 0.7:
                surprise += functional.softplus(-logits_NA[image, a])
                wanted = boxes.encode(anchor[None], target["boxes"][column.argmax()][None])[0]
                error += (offsets_NA4[image, a] - wanted).abs().sum()
            elif most < 0.3:
                surprise += functional.softplus(logits_NA[image, a])
    _, losses = net(map_NCHW, SIZES, TARGETS)
    assert error > 0
    torch.testing.assert_close(losses["loss_rpn_cls"], surprise / (SETTINGS["anchors"] * 2))
    torch.testing.assert_close(losses["loss_rpn_loc"], error / (SETTINGS["anchors"] * 2))


def test_losses_count_the_anchors_that_are_drawn_and_no_others() -> None:
    net = network(anchors=8)
    map_NCHW = torch.zeros(2, 6, 8, 6, dtype=torch.float64)
    torch.nn.init.zeros_(net.head.cls_logits.weight)
    torch.nn.init.zeros_(net.head.cls_logits.bias)
    _, losses = net(map_NCHW, SIZES, TARGETS)  # each anchor costs log 2, and 8 of each image are drawn
    assert losses["loss_rpn_cls"].item() == pytest.approx(0.6931471805599453)


@pytest.mark.parametrize("training", [True, False])
def test_proposals_equal_a_greedy_loop(training: bool) -> None:
    net, map_NCHW = network().train(training), torch.randn(2, 6, 8, 6, dtype=torch.float64)
    logits_NA, offsets_NA4 = head(net, map_NCHW)
    anchors_A4 = boxes.grid_anchors(net.cell_K4, height=8, width=6, stride=8)
    found, losses = net(map_NCHW, SIZES, None)
    assert losses == {}
    before, after = (40, 12) if training else (30, 9)
    for image, size in enumerate(SIZES):
        kept: list[Tensor] = []
        for a in logits_NA[image].argsort(descending=True)[:before]:
            box = boxes.clip(boxes.decode(offsets_NA4[image, a][None, None], anchors_A4[a][None])[0], size)[0]
            sides = box[2:] - box[:2]
            if (sides > 0).all() and all(boxes.overlaps(box[None], other[None]) <= 0.7 for other in kept):
                kept.append(box)
        assert len(kept) > after or not training
        torch.testing.assert_close(found[image], torch.stack(kept[:after]))
        assert not found[image].requires_grad


def test_a_box_that_is_no_number_is_left_out() -> None:
    net = network()
    map_NCHW = torch.randn(1, 6, 8, 6, dtype=torch.float64)
    map_NCHW[0, 0, 4, 4] = torch.nan
    (found_P4,), losses = net(map_NCHW, SIZES[:1], TARGETS[:1])
    assert found_P4.isfinite().all()
    assert len(found_P4)
    assert losses["loss_rpn_cls"].isnan()


def test_the_head_starts_with_detectron2s_spread() -> None:
    torch.manual_seed(0)
    net = ProposalNetwork(64, 16, settings=DetectorSettings())
    for layer in (net.head.conv[0][0], net.head.cls_logits, net.head.bbox_pred):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.06)
        assert not layer.bias.any()
    assert net.head.cls_logits.out_channels == 15
    assert "cell_K4" not in net.state_dict()
