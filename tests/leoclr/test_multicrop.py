import pytest
import torch
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from torch import Tensor, nn

from leoclr.multicrop import features, sinkhorn
from tests.tiny_backbone import Tiny


def scores(rows: int, prototypes: int) -> Tensor:
    cosines = torch.rand(rows, prototypes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return cosines * 2 - 1


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_equals_the_loop_over_matrix_entries(iterations: int) -> None:
    """Algorithm 1 of arXiv:2006.09882's appendix, entry by entry, with all of its divisions."""
    scores_MP = scores(5, 3)
    share = [[float(torch.exp(scores_MP[row, column] / 0.05)) for row in range(5)] for column in range(3)]
    whole = sum(map(sum, share))
    share = [[value / whole for value in row] for row in share]
    for _ in range(iterations):
        share = [[value / sum(row) / 3 for value in row] for row in share]
        columns = [sum(share[row][column] for row in range(3)) for column in range(5)]
        share = [[share[row][column] / columns[column] / 5 for column in range(5)] for row in range(3)]
    expected = torch.tensor(share, dtype=torch.float64).T * 5
    torch.testing.assert_close(sinkhorn(scores_MP, epsilon=0.05, iterations=iterations), expected, rtol=1e-9, atol=0)


def test_sinkhorn_equals_lightlys() -> None:
    scores_MP = scores(12, 7)
    theirs = lightly_sinkhorn(scores_MP, iterations=3, epsilon=0.05, gather_distributed=False)
    torch.testing.assert_close(sinkhorn(scores_MP, epsilon=0.05, iterations=3), theirs, rtol=1e-9, atol=1e-15)


def test_sinkhorn_gives_every_prototype_its_share() -> None:
    balanced_MP = sinkhorn(scores(60, 4), epsilon=0.5, iterations=200)
    torch.testing.assert_close(balanced_MP.sum(dim=1), torch.ones(60, dtype=torch.float64))
    torch.testing.assert_close(balanced_MP.sum(dim=0), torch.full((4,), 15.0, dtype=torch.float64))


def test_neighbors_of_one_size_share_their_batch_statistics() -> None:
    torch.manual_seed(0)
    backbone = Tiny()
    large, small = torch.randn(2, 4, 3, 16, 16), torch.randn(1, 4, 3, 8, 8)
    rows_XF = features(backbone, [*large, *small])
    torch.testing.assert_close(rows_XF[:8], backbone(large.flatten(0, 1)))
    torch.testing.assert_close(rows_XF[8:], backbone(small[0]))
    alone = nn.Module.__call__(backbone, large[0])
    assert not torch.allclose(rows_XF[:4], alone)
