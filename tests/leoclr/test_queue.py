import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leoclr.queue import Queue


def numbered(start: int, count: int) -> Tensor:
    return torch.arange(start, start + count, dtype=torch.float32)[:, None].expand(count, 2).contiguous()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), batches=st.lists(st.integers(0, 25), max_size=8))
def test_holds_the_last_keys_in_ring_order_for_any_batch(size: int, batches: list[int]) -> None:
    queue = Queue(size, 2)
    expected = queue.keys_KD.clone()
    pushed = 0
    for batch in batches:
        queue.push(numbered(pushed, batch))
        for key in numbered(pushed, batch):  # one by one: the definition of first in, first out
            expected[pushed % size] = key
            pushed += 1
    torch.testing.assert_close(queue.keys_KD, expected, rtol=0, atol=0)
    assert queue.pointer.item() == pushed % size


def test_equals_moco_where_the_batch_divides_the_queue() -> None:
    queue = Queue(12, 3)
    theirs_DK, pointer = queue.keys_KD.T.clone(), 0  # moco/builder.py keeps the transpose
    for step in range(7):
        keys_BD = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        queue.push(keys_BD)
        theirs_DK[:, pointer : pointer + 4] = keys_BD.T
        pointer = (pointer + 4) % 12
    torch.testing.assert_close(queue.keys_KD, theirs_DK.T, rtol=0, atol=0)
    assert queue.pointer.item() == pointer


def test_starts_as_unit_rows_that_the_seed_decides() -> None:
    torch.manual_seed(3)
    first = Queue(50, 8)
    torch.manual_seed(3)
    again = Queue(50, 8)
    torch.testing.assert_close(first.keys_KD.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(first.keys_KD, again.keys_KD, rtol=0, atol=0)


def test_state_comes_back_and_continues() -> None:
    queue, other = Queue(5, 2), Queue(5, 2)
    queue.push(numbered(0, 3))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(numbered(3, 4))
    torch.testing.assert_close(other.state_dict(), queue.state_dict(), rtol=0, atol=0)
    assert list(queue.state_dict()) == ["keys_KD", "pointer"]


def test_takes_keys_of_lower_precision_and_keeps_no_graph() -> None:
    queue = Queue(4, 2)
    queue.push(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))
    assert queue.keys_KD.dtype == torch.float32
    assert not queue.keys_KD.requires_grad
    assert queue.keys_KD[:2].tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(("size", "dim"), [(0, 2), (2, 0)])
def test_refuses_an_empty_queue(size: int, dim: int) -> None:
    with pytest.raises(ValueError, match="at least one key"):
        Queue(size, dim)
