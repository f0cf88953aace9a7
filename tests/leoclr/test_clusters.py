import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional

from leoclr import clusters
from leoclr.clusters import cluster, lloyd, split_for_empty, whiten


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def rows(images: int, dim: int, *, seed: int = 0) -> Tensor:
    """Return features that differ in scale and depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixed_MF = torch.randn(images, dim, generator=generator, dtype=torch.float64)
    return mixed_MF @ torch.randn(dim, dim, generator=generator, dtype=torch.float64) + 3.0


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is done in parts has several."""
    monkeypatch.setattr(clusters, "_ROWS", 7)
    monkeypatch.setattr(clusters, "_CELLS", 50)


@pytest.mark.parametrize("iterations", [1, 3, 20])
@pytest.mark.usefixtures("small_parts")
def test_lloyd_is_sklearns_from_equal_centers(iterations: int) -> None:
    rows_MP = rows(90, 3)
    centers_KP = rows_MP[:6]
    theirs = KMeans(6, init=centers_KP.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    theirs.fit(rows_MP.numpy())
    clusters_M, moved_KP = lloyd(rows_MP, centers_KP, iterations=iterations, rng=rng())
    assert clusters_M.tolist() == theirs.labels_.tolist()
    torch.testing.assert_close(moved_KP, torch.from_numpy(theirs.cluster_centers_))


@pytest.mark.parametrize(("images", "dim", "kept"), [(60, 5, 3), (60, 5, 256), (4, 9, 256)])
@pytest.mark.usefixtures("small_parts")
def test_whitening_is_sklearns_up_to_signs(images: int, dim: int, kept: int) -> None:
    rows_MF = rows(images, dim)
    found_MP = whiten(rows_MF, dim=kept)
    size = min(kept, dim, images - 1)
    theirs = PCA(size, whiten=True, svd_solver="full").fit_transform(rows_MF.numpy())
    expected_MP = functional.normalize(torch.from_numpy(theirs))
    assert found_MP.shape == (images, size)
    torch.testing.assert_close(found_MP @ found_MP.T, expected_MP @ expected_MP.T)
    torch.testing.assert_close(found_MP.abs().sort(dim=1).values, expected_MP.abs().sort(dim=1).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_feature_that_varies_by_rounding_alone_is_left_out(dtype: torch.dtype) -> None:
    live_MF = rows(50, 3).to(dtype)
    rounding_MF = 0.01 * torch.finfo(dtype).eps ** 0.5 * rows(50, 2, seed=1).to(dtype)
    padded_MF = torch.cat([live_MF, 0.5 + rounding_MF, torch.full((50, 2), 0.3, dtype=dtype)], dim=1)
    expected_MP, found_MP = whiten(live_MF, dim=8), whiten(padded_MF, dim=8)
    torch.testing.assert_close(found_MP @ found_MP.T, expected_MP @ expected_MP.T, rtol=1e-3, atol=1e-4)


def test_equal_features_make_one_cluster_and_no_nan() -> None:
    found_M = cluster(torch.full((12, 4), 0.3), count=3, dim=2, iterations=5, rng=rng())
    assert found_M.tolist() == [0] * 12


def test_an_empty_cluster_takes_half_of_a_large_one() -> None:
    centers_KP = torch.tensor([[1.0, 2.0, -4.0], [9.0, 9.0, 9.0], [7.0, 7.0, 7.0]])
    given = centers_KP.clone()
    found_KP = split_for_empty(centers_KP, torch.tensor([8.0, 0.0, 1.0]), rng())  # one of a single row is never split
    up, down = 1 + 1 / 1024, 1 - 1 / 1024
    assert found_KP[1].tolist() == [1.0 * up, 2.0 * down, -4.0 * up]
    assert found_KP[0].tolist() == [1.0 * down, 2.0 * up, -4.0 * down]
    assert found_KP[2].tolist() == [7.0, 7.0, 7.0]
    torch.testing.assert_close(centers_KP, given, rtol=0, atol=0)


def test_large_clusters_are_split_more_often() -> None:
    centers_KP, source = torch.eye(3), rng()
    split = [split_for_empty(centers_KP, torch.tensor([0.0, 31.0, 11.0]), source) for _ in range(400)]
    share = sum(bool(found_KP[0, 1]) for found_KP in split) / 400
    assert share == pytest.approx(30 / 40, abs=0.08)  # more than three deviations


def test_every_cluster_ends_with_a_row_when_there_are_enough() -> None:
    rows_MP = rows(40, 2)
    far_KP = torch.cat([rows_MP[:2], torch.full((3, 2), 1e4, dtype=torch.float64)])
    found_M, _ = lloyd(rows_MP, far_KP, iterations=20, rng=rng())
    assert found_M.unique().tolist() == [0, 1, 2, 3, 4]


def test_clusters_are_a_function_of_the_features_and_the_seed() -> None:
    features_MF = rows(80, 6)
    found = [cluster(features_MF, count=5, dim=4, iterations=20, rng=rng(seed)) for seed in (1, 1, 2)]
    assert found[0].tolist() == found[1].tolist() != found[2].tolist()
    assert found[0].dtype == torch.int64
    assert set(found[0].tolist()) == set(range(5))


def test_groups_that_are_plain_to_see_are_found() -> None:
    corners = torch.eye(4, dtype=torch.float64).repeat_interleave(25, dim=0) * 10
    found_M = cluster(corners + 0.01 * rows(100, 4), count=4, dim=3, iterations=20, rng=rng(5))
    assert [len(set(part.tolist())) for part in found_M.split(25)] == [1] * 4


def test_more_clusters_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="^count: 5 clusters of 4 images"):
        cluster(rows(4, 3), count=5, dim=2, iterations=1, rng=rng())
