import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from leoclr.augment.reading import PART, Readers, parts
from leoclr.data.contract import DataError


def square(item: int) -> tuple[torch.Tensor, ...]:
    if item == 13:
        raise DataError("thirteen.jpg: not a readable image", hint="replace it")
    if item == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.tensor(item * item), torch.tensor(os.getpid())


def passed(readers: Readers[int], items: list[int]) -> list[int]:
    return [int(result[0]) for result in readers.results(items)]


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def readers() -> Iterator[Readers[int]]:
    made = Readers(square, 2)
    yield made
    del made
    gc.collect()


def test_a_batch_is_cut_into_parts_and_an_empty_one_is_a_part() -> None:
    assert [len(part) for part in parts(np.arange(2 * PART + 1))] == [PART, PART, 1]
    assert np.concatenate(parts(np.arange(2 * PART + 1))).tolist() == list(range(2 * PART + 1))
    assert [len(part) for part in parts(np.arange(0))] == [0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # a machine may have less cores
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_whatever_the_number_of_processes(workers: int) -> None:
    made = Readers(square, workers)
    assert passed(made, [3, 1, 4, 1, 5, 9]) == [9, 1, 16, 1, 25, 81]
    assert passed(made, []) == []


def test_processes_stay_for_later_passes_and_go_with_their_owner() -> None:
    before = children()
    made = Readers(square, 2)
    own = [{int(result[1]) for result in made.results(range(8))} for _ in range(3)]
    assert len(own[0]) == 2 and own[0] == own[1] == own[2]
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        assert passed(made, list(range(8))) == [item * item for item in range(8)]
        assert len(list(Path("/proc/self/fd").iterdir())) <= open_files
    del made
    gc.collect()
    assert children() == before


def test_a_new_pass_ends_an_unfinished_one(readers: Readers[int]) -> None:
    first = readers.results(range(20))
    assert int(next(first)[0]) == 0
    assert passed(readers, [5, 6]) == [25, 36]
    with pytest.raises(RuntimeError, match="a later pass"):
        next(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_user_arrives_as_it_was_raised(workers: int) -> None:
    made = Readers(square, workers)
    with pytest.raises(DataError) as caught:
        passed(made, [1, 2, 13, 4])
    assert (str(caught.value), caught.value.hint) == ("thirteen.jpg: not a readable image", "replace it")


def test_a_process_that_is_killed_is_an_error_with_a_hint(readers: Readers[int]) -> None:
    with pytest.raises(DataError, match="a process that loads images died") as caught:
        passed(readers, [1, 99, *range(12)])
    assert "memory" in caught.value.hint
