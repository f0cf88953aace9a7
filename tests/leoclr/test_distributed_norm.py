"""The test of several workers runs this file as a program, once per worker, on the gloo backend."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from leoclr import distributed
from leoclr.distributed_norm import SynchronizedBatchNorm, convert_sync_batchnorm

WORKERS = 2
EXACT = {"rtol": 1e-6, "atol": 1e-9}


def test_the_names_of_the_state_and_the_parameters_stay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())).eval()
    before, parameters = network.state_dict(), list(network.parameters())
    made = convert_sync_batchnorm(network)
    assert isinstance(made[1][0], SynchronizedBatchNorm)
    assert not made[1][0].training
    assert list(made.state_dict()) == list(before)
    assert all(new is old for new, old in zip(made.parameters(), parameters, strict=True))
    assert isinstance(convert_sync_batchnorm(nn.BatchNorm1d(3)), SynchronizedBatchNorm)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_one_worker_has_torch_batch_norm_bit_by_bit(momentum: float | None) -> None:
    plain = nn.BatchNorm2d(5, momentum=momentum)
    ours = convert_sync_batchnorm(nn.BatchNorm2d(5, momentum=momentum))
    for _ in range(3):
        rows = torch.randn(4, 5, 3, 3)
        torch.testing.assert_close(ours(rows), plain(rows), rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(ours.eval()(rows), plain.eval()(rows), rtol=0, atol=0)


def test_two_workers_equal_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path / "meeting")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)


def check_equal(rank: int, plain: nn.Module, rows: list[Tensor]) -> None:
    """Compare `plain` on all rows with its synchronized copy on this worker's: three steps, and evaluation."""
    shared = convert_sync_batchnorm(type(plain)(plain.num_features, momentum=plain.momentum, affine=plain.affine))
    shared.to(rows[0].dtype).load_state_dict(plain.state_dict())
    for step in range(3):
        joined = torch.cat(rows).requires_grad_()
        mine = rows[rank].clone().requires_grad_()
        weights = torch.linspace(-1, 2, joined.numel(), dtype=joined.dtype).view_as(joined).sin() + step
        here = slice(0, len(rows[0])) if rank == 0 else slice(len(rows[0]), None)
        expected, out = plain(joined), shared(mine)
        torch.testing.assert_close(out, expected[here], **EXACT)
        plain.zero_grad()
        shared.zero_grad()
        (expected * weights).sum().backward()
        (out * weights[here]).sum().backward()
        torch.testing.assert_close(mine.grad, joined.grad[here], **EXACT)
        for name, parameter in shared.named_parameters():
            dist.all_reduce(parameter.grad)  # each worker's share of the sum of losses
            torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, **EXACT)
        torch.testing.assert_close(shared.state_dict(), plain.state_dict(), **EXACT)
    torch.testing.assert_close(shared.eval()(rows[rank]), plain.eval()(rows[rank]), rtol=0, atol=1e-12)


def check_all(rank: int) -> None:
    torch.manual_seed(0)  # every worker draws the rows of all of them
    sizes = {"equal": (3, 3), "unequal": (2, 5), "none": (4, 0)}
    for first, second in sizes.values():
        for shape in ((6,), (6, 3, 2)):
            kind = nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d
            rows = [torch.randn(count, *shape, dtype=torch.float64) * 3 + 100 for count in (first, second)]
            for momentum, affine in ((0.1, True), (None, False)):
                plain = kind(6, momentum=momentum, affine=affine).double()
                if affine:
                    nn.init.uniform_(plain.weight)
                    nn.init.normal_(plain.bias)
                check_equal(rank, plain, rows)
    half = convert_sync_batchnorm(nn.BatchNorm2d(6))
    assert half(torch.randn(2, 6, 3, 3).bfloat16()).dtype == torch.bfloat16
    check_wrapped(rank)


def check_wrapped(rank: int) -> None:
    """Train a step of a wrapped network and of one process on all rows: the same weights."""
    networks = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)) for _ in "12"
    ]
    networks[1].load_state_dict(networks[0].state_dict())
    alone, shared = (network.double() for network in networks)
    rows = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    wrapped = distributed.wrap(convert_sync_batchnorm(shared), torch.device("cpu"))
    for network, mine in ((alone, rows), (wrapped, rows.chunk(WORKERS)[rank])):
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            network(mine).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(shared.state_dict(), alone.state_dict(), **EXACT)


if __name__ == "__main__":
    rank, meeting = int(sys.argv[1]), sys.argv[2]
    patience = timedelta(seconds=60)  # for a worker whose peer failed
    dist.init_process_group("gloo", f"file://{meeting}", patience, rank=rank, world_size=WORKERS)
    check_all(rank)
    dist.destroy_process_group()
