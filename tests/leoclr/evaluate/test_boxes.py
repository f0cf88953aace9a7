"""Box arithmetic against hand-made values, loops over single boxes, and torchvision's own classes where they agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import _utils
from torchvision.ops import box_iou

from leoclr.evaluate import boxes


def draw(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60
    return torch.cat([corners, corners + 2 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40], 1)


def test_anchors_keep_area_and_ratio_and_are_not_rounded() -> None:
    anchors_K4 = boxes.cell_anchors((32, 64), (0.5, 1.0, 2.0))
    sides_K2 = anchors_K4[:, 2:] - anchors_K4[:, :2]
    torch.testing.assert_close(sides_K2.prod(1), torch.tensor([1024.0] * 3 + [4096.0] * 3))
    torch.testing.assert_close(sides_K2[:, 1] / sides_K2[:, 0], torch.tensor([0.5, 1.0, 2.0] * 2))
    torch.testing.assert_close(anchors_K4[0], torch.tensor([-16, -8, 16, 8]) * math.sqrt(2))
    torch.testing.assert_close(anchors_K4[:, :2], -anchors_K4[:, 2:])  # around the corner of the image


def test_anchors_step_by_the_stride_row_by_row() -> None:
    cell_K4 = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    anchors_A4 = boxes.grid_anchors(cell_K4, height=2, width=3, stride=16)
    expected = [
        [x + s * r for x, s in zip((column, row, column, row), (-1, -1, 1, 1), strict=True)]
        for row in (0, 16)
        for column in (0, 16, 32)
        for r in (1, 2)
    ]
    assert anchors_A4.tolist() == expected


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_offsets_equal_a_loop_and_lead_back(weights: tuple[float, float, float, float]) -> None:
    from_A4, to_A4 = draw(20, 0), draw(20, 1)
    offsets_A4 = boxes.encode(from_A4, to_A4, weights)
    for (x1, y1, x2, y2), (u1, v1, u2, v2), row in zip(from_A4.tolist(), to_A4.tolist(), offsets_A4, strict=True):
        expected = [
            ((u1 + u2) / 2 - (x1 + x2) / 2) / (x2 - x1) * weights[0],
            ((v1 + v2) / 2 - (y1 + y2) / 2) / (y2 - y1) * weights[1],
            math.log((u2 - u1) / (x2 - x1)) * weights[2],
            math.log((v2 - v1) / (y2 - y1)) * weights[3],
        ]
        assert row.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    torch.testing.assert_close(boxes.decode(offsets_A4[:, None], from_A4, weights)[:, 0], to_A4)
    coder = _utils.BoxCoder(weights)
    torch.testing.assert_close(coder.encode_single(to_A4, from_A4), offsets_A4)
    wild_AC4 = torch.randn(20, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 20
    expected_AC4 = coder.decode_single(wild_AC4.flatten(1), from_A4).view(20, 3, 4)
    torch.testing.assert_close(boxes.decode(wild_AC4, from_A4, weights), expected_AC4)


def test_a_box_grows_at_most_from_16_to_1000_pixels() -> None:
    grown = boxes.decode(torch.tensor([[[0.0, 0.0, 99.0, 0.0]]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    torch.testing.assert_close(grown[0, 0], torch.tensor([-492.0, 0.0, 508.0, 16.0]))


def test_overlaps_equal_torchvisions_and_empty_boxes_have_none() -> None:
    a_G4, b_A4 = draw(7, 0), draw(30, 1)
    torch.testing.assert_close(boxes.overlaps(a_G4, b_A4), box_iou(a_G4, b_A4))
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert boxes.overlaps(point, point).tolist() == [[0.0]]


def naive_match(overlap_GA: list[list[float]], low: float, high: float, best: bool) -> tuple[list[int], list[int]]:
    """One box after the other, after the documentation of detectron2's Matcher."""
    columns = list(zip(*overlap_GA, strict=True))
    objects, kinds = [], []
    for column in columns:
        objects.append(column.index(max(column)))
        kinds.append(1 if max(column) >= high else 0 if max(column) < low else -1)
    for row in overlap_GA if best else []:
        for index, value in enumerate(row):
            if value == max(row):
                kinds[index] = 1
    return objects, kinds


@pytest.mark.parametrize(("low", "high", "best"), [(0.3, 0.7, True), (0.5, 0.5, False)])
def test_matches_equal_a_loop_and_torchvisions(low: float, high: float, best: bool) -> None:
    for seed in range(5):
        near = torch.cat([draw(60, seed + 9), draw(4, seed) + 3])
        overlap_GA = boxes.overlaps(draw(4, seed), near).round(decimals=1)  # ties, and values that are the thresholds
        object_A, kind_A = boxes.match(overlap_GA, low=low, high=high, best=best)
        assert (object_A.tolist(), kind_A.tolist()) == naive_match(overlap_GA.tolist(), low, high, best)
        theirs_A = _utils.Matcher(high, low, allow_low_quality_matches=best)(overlap_GA)
        torch.testing.assert_close(
            torch.where(kind_A == 1, object_A, kind_A.sub(1)),
            torch.where(theirs_A >= 0, theirs_A, torch.where(theirs_A == -1, -1, -2)),
        )
        assert {0, 1} <= set(kind_A.tolist())


def test_without_objects_all_is_background() -> None:
    object_A, kind_A = boxes.match(torch.empty(0, 5), low=0.3, high=0.7, best=True)
    assert object_A.tolist() == kind_A.tolist() == [0] * 5


@pytest.mark.parametrize(("ones", "zeros", "taken"), [(50, 50, (8, 24)), (3, 50, (3, 29)), (50, 5, (8, 5))])
def test_samples_are_of_their_kind_and_as_many_as_asked(ones: int, zeros: int, taken: tuple[int, int]) -> None:
    kind_A = torch.tensor([1] * ones + [0] * zeros + [-1] * 9)[torch.randperm(ones + zeros + 9)]
    positive, negative = boxes.sample(kind_A, 32, positive=0.25)
    assert (len(set(positive.tolist())), len(set(negative.tolist()))) == taken
    assert set(kind_A[positive].tolist()) == {1}
    assert set(kind_A[negative].tolist()) == {0}


def test_every_box_is_sampled_as_often() -> None:
    torch.manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(600):
        positive, negative = boxes.sample(torch.tensor([1] * 10 + [0] * 10), 8, positive=0.5)
        counts[positive] += 1
        counts[negative] += 1
    assert (counts - 240).abs().max() < 60  # of 600 x 4 / 10; a binomial's deviation is 12


def test_clipping_and_emptiness() -> None:
    clipped = boxes.clip(torch.tensor([[-5.0, -1.0, 50.0, 12.0], [31.0, 2.0, 40.0, 9.0]]), (10, 30))
    assert clipped.tolist() == [[0, 0, 30, 10], [30, 2, 30, 9]]
    assert boxes.filled(clipped).tolist() == [True, False]
