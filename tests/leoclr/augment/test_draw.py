import numpy as np
import pytest
import torch

from leoclr.augment.draw import philox, uniform

# DEShaw Research, Random123, tests/kat_vectors, "philox4x32 10": counter, key, output.
KNOWN_ANSWERS = [
    ([0x00000000] * 4, (0x00000000, 0x00000000), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox(np.array(counter, np.uint64), key=key).tolist() == expected


def test_uniform_is_philox_of_the_documented_counter() -> None:
    seed, epoch, image, stream = 0x1122334455667788, 3, 41, 2
    words = philox(np.array([1, image, epoch, stream], np.uint64), key=(0x55667788, 0x11223344))
    drawn = uniform(seed, epoch, torch.tensor([image]), stream=stream, count=8)
    assert drawn[0, 4:].tolist() == [(int(word) >> 8) / 2**24 for word in words]


def test_a_row_depends_on_its_image_alone() -> None:
    whole = uniform(5, 1, torch.arange(100), stream=0, count=6)
    some = torch.tensor([99, 3, 3, 40])
    assert torch.equal(uniform(5, 1, some, stream=0, count=6), whole[some])


def test_seed_epoch_and_stream_each_change_every_row() -> None:
    images = torch.arange(50)
    draws = [
        uniform(seed, epoch, images, stream=stream, count=4)
        for seed, epoch, stream in [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    for index, one in enumerate(draws):
        assert all(not (one == other).all(1).any() for other in draws[:index])


def test_numbers_are_even_and_independent() -> None:
    drawn = uniform(7, 0, torch.arange(20_000), stream=0, count=5)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, 20, 0, 1)  # 5,000 expected in each; five standard deviations are 345
    assert (counts - 5000).abs().max() < 345
    assert (torch.corrcoef(drawn.T) - torch.eye(5)).abs().max() < 5 / 20_000**0.5


@pytest.mark.parametrize(
    ("name", "arguments"), [("seed", (-1, 0, 0)), ("epoch", (0, 2**32, 0)), ("stream", (0, 0, -1))]
)
def test_what_does_not_fit_the_counter_is_refused(name: str, arguments: tuple[int, int, int]) -> None:
    seed, epoch, stream = arguments
    with pytest.raises(ValueError, match=f"{name}: "):
        uniform(seed, epoch, torch.tensor([0]), stream=stream, count=1)
