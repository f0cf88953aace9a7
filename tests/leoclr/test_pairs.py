from collections import Counter

import numpy as np
import pytest

from leoclr.pairs import Indices, Members

CLUSTERS_M = np.array([7, 2, 2, 7, 7, 7, 0, 7, 2, 7, 4, 7], dtype=np.int64)  # two of one image, one of 3, one of 7
EVERY = np.arange(4_000, dtype=np.int64)


def pairs(
    indices_N: Indices = EVERY, *, clusters_M: Indices = CLUSTERS_M, seed: int = 3, epoch: int = 0
) -> tuple[Indices, Indices]:
    return Members.of(clusters_M).pairs(indices_N, seed=seed, epoch=epoch)


def test_even_pairs_are_of_two_clusters_and_odd_ones_two_images_of_one() -> None:
    first_N, partner_N = pairs()
    same_N = CLUSTERS_M[first_N] == CLUSTERS_M[partner_N]
    assert (same_N == (EVERY % 2 == 1)).all()
    assert (first_N != partner_N).all()


def test_every_pair_that_the_rule_allows_is_drawn_and_no_other() -> None:
    first_N, partner_N = pairs()
    odd_N = EVERY % 2 == 1
    images = range(len(CLUSTERS_M))
    for odd in (False, True):
        drawn = set(zip(first_N[odd_N == odd].tolist(), partner_N[odd_N == odd].tolist(), strict=True))
        assert drawn == {(a, b) for a in images for b in images if a != b and (CLUSTERS_M[a] == CLUSTERS_M[b]) == odd}


def test_clusters_are_drawn_evenly_and_images_evenly_in_them() -> None:
    first_N, partner_N = pairs()
    for drawn_N, odd, clusters in ((first_N, 0, 4), (partner_N, 0, 4), (first_N, 1, 2), (partner_N, 1, 2)):
        chosen_N = drawn_N[odd == EVERY % 2]
        counts = Counter(CLUSTERS_M[chosen_N].tolist())
        assert len(counts) == clusters
        for count in counts.values():  # 2000 draws: a deviation is below 23
            assert count == pytest.approx(len(chosen_N) / clusters, abs=110)
        large = Counter(image for image in chosen_N.tolist() if CLUSTERS_M[image] == 7)
        for count in large.values():
            assert count == pytest.approx(counts[7] / 7, abs=55)


def test_a_pair_depends_on_its_index_its_seed_and_its_epoch_alone() -> None:
    first_N, partner_N = pairs()
    some_N = np.array([17, 4, 999], dtype=np.int64)
    again = pairs(some_N)
    assert (again[0].tolist(), again[1].tolist()) == (first_N[some_N].tolist(), partner_N[some_N].tolist())
    for moved in ({"seed": 4}, {"epoch": 1}):
        other_N, _ = pairs(**moved)
        assert (other_N == first_N).mean() < 0.3


@pytest.mark.parametrize("clusters", [[0, 0, 0], [0, 1, 2]], ids=["one cluster", "no two of one"])
def test_what_no_rule_covers_still_ends(clusters: list[int]) -> None:
    first_N, partner_N = pairs(clusters_M=np.array(clusters, dtype=np.int64))
    known = np.array(clusters)
    odd_N = EVERY % 2 == 1
    if len(set(clusters)) == 1:
        assert set(first_N.tolist()) == set(partner_N.tolist()) == {0, 1, 2}
        assert (first_N != partner_N)[odd_N].all()
    else:
        assert (known[first_N] != known[partner_N])[~odd_N].all()
        assert (first_N == partner_N)[odd_N].all()
