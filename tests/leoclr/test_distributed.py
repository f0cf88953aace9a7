"""The test of several workers runs this file as a program, once per worker, on the gloo backend."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.data.contract import DataSet, Split, Stack
from leoclr.levels import Levels
from leoclr.methods.contract import Method
from leoclr.momentum import SlowEncoder
from leoclr.pretrain_settings import PretrainSettings
from leoclr.pretraining import Pretraining
from leoclr.queue import Queue
from leoclr.stepping import Place

WORKERS = 2
CPU = torch.device("cpu")


def test_everything_is_the_identity_without_a_process_group() -> None:
    rows_N = torch.randn(5, 2)
    shuffled_N, order_B = distributed.shuffle(rows_N, seed=1)
    module = nn.Linear(2, 2)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    torch.testing.assert_close([distributed.gather(rows_N), shuffled_N], [rows_N, rows_N], rtol=0, atol=0)
    assert distributed.gather_with_gradient(rows_N) is rows_N
    torch.testing.assert_close(distributed.unshuffle(shuffled_N, order_B), rows_N, rtol=0, atol=0)
    assert distributed.wrap(module, CPU) is module


def test_rows_and_training_state_on_two_workers(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", __file__, str(rank), str(tmp_path / "meeting")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)


def check_rows(rank: int) -> None:
    assert (distributed.rank(), distributed.world_size()) == (rank, WORKERS)
    mine_N3 = torch.arange(12.0).view(4, 3) + 100 * rank
    all_B3 = torch.cat([torch.arange(12.0).view(4, 3) + 100 * each for each in range(WORKERS)])
    torch.testing.assert_close(distributed.gather(mine_N3.requires_grad_()), all_B3, rtol=0, atol=0)
    assert not distributed.gather(mine_N3).requires_grad

    crossed = set()
    for seed in range(20):
        shuffled_N3, order_B = distributed.shuffle(mine_N3, seed=seed)
        assert sorted(order_B.tolist()) == list(range(8))
        torch.testing.assert_close(shuffled_N3, all_B3[order_B[4 * rank : 4 * rank + 4]], rtol=0, atol=0)
        restored_N3 = distributed.unshuffle(shuffled_N3, order_B)
        torch.testing.assert_close(restored_N3, mine_N3.detach(), rtol=0, atol=0)
        crossed.add(tuple(order_B.tolist()))
    assert len(crossed) > 15  # of 20 seeds: the order does depend on the seed

    images_NCHW = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    gathered_BCHW = distributed.gather(images_NCHW)
    torch.testing.assert_close(gathered_BCHW[2 * rank : 2 * rank + 2], images_NCHW, rtol=0, atol=0)


def check_gradient_through_gather(rank: int) -> None:
    """The mean of both workers' gradients is that of one worker with all rows, for a loss that couples the rows."""
    all_BD = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mine_D, alone_D = (torch.ones(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gathered_BD = distributed.gather_with_gradient(all_BD[3 * rank : 3 * rank + 3] * mine_D)
    torch.testing.assert_close(gathered_BD, all_BD, rtol=0, atol=0)
    for rows_BD in (gathered_BD, all_BD * alone_D):
        (rows_BD @ rows_BD.T).square().mean().backward()
    dist.all_reduce(mine_D.grad)
    torch.testing.assert_close(mine_D.grad / WORKERS, alone_D.grad, rtol=1e-12, atol=0)


def check_training(rank: int) -> None:
    torch.manual_seed(rank)  # workers that start apart
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    module = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(16, 5), "queue": Queue(7, 5)})
    assert distributed.wrap(nn.Flatten(), CPU).__class__ is nn.Flatten  # nothing to train
    wrapped = distributed.wrap(module, CPU)
    assert isinstance(wrapped, DistributedDataParallel)
    assert_equal_everywhere(module.state_dict())

    slow = SlowEncoder(module["backbone"], module["head"], momentum=0.5, shuffle_bn=True)
    images = [torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(each)) for each in range(WORKERS)]
    slow.update(module["backbone"], module["head"], step=4)
    key_ND = slow(images[rank], view=1)
    for _ in range(3):
        module["queue"].push(distributed.gather(key_ND))
    assert_equal_everywhere(module["queue"].state_dict())
    expected_ND = keys_by_hand(slow, torch.cat(images), seed=4 * 2 + 1)[3 * rank : 3 * rank + 3]
    torch.testing.assert_close(key_ND, expected_ND)
    check_rounded_keys(slow, images, rank)


def check_rounded_keys(slow: SlowEncoder, images: list[Tensor], rank: int) -> None:
    """Key images travel as uint8: their keys are those of pictures, which differ a little from the images."""
    slow.levels = Levels((0.5,) * 3, (0.1,) * 3)  # wide enough that nothing becomes black or white
    with sent() as dtypes:
        key_ND = slow(images[rank], view=1)
    assert dtypes == [torch.uint8, torch.float32]  # the images, then their keys on the way back
    pictures = [((each * 0.1 + 0.5) * 255).round().clamp(0, 255) / 255 for each in images]
    rounded_BCHW = torch.cat([(each - 0.5) / 0.1 for each in pictures])
    mine, seed = slice(3 * rank, 3 * rank + 3), slow._step * 2 + 1
    torch.testing.assert_close(key_ND, keys_by_hand(slow, rounded_BCHW, seed=seed)[mine])
    exact_ND = keys_by_hand(slow, torch.cat(images), seed=seed)[mine]
    assert 1e-5 < (key_ND - exact_ND).abs().max() < 0.1


@contextmanager
def sent() -> Iterator[list[torch.dtype]]:
    """Note the types of what is gathered inside the block."""
    gather, dtypes = dist.all_gather, []

    def noting(parts: list[Tensor], own: Tensor) -> None:
        dtypes.append(own.dtype)
        gather(parts, own)

    dist.all_gather = noting
    try:
        yield dtypes
    finally:
        dist.all_gather = gather


class Surveyed(Method):
    """A method that looks at its data; each worker's batch norm has seen other images."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2))


def check_survey(rank: int) -> None:
    """All images are seen by the network that is saved, worker 0's."""
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    split = Split(Stack(images), np.zeros(5, np.int64))
    data = DataSet("count", ("one",), {"train": split}, (0.0,) * 3, (1.0,) * 3)
    view = View(size=2, crop_scale=None, jitter_p=0, gray_p=0, blur_p=0, flip_p=0)
    torch.manual_seed(3)
    settings, place = PretrainSettings(batch=2, image_size=2), Place(device=CPU)
    work = Pretraining(Surveyed(), data, settings, (view,), seed=0, place=place)
    work.method.backbone[1].running_mean.fill_(rank)
    shown_N3HW = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    saved = work.method.backbone.eval()
    with torch.no_grad():
        expected_NF = saved[2](shown_N3HW.flatten(1) / (1 + saved[1].eps) ** 0.5)  # worker 0: mean 0, variance 1
    torch.testing.assert_close(work.survey(view, 0), expected_NF)


def keys_by_hand(slow: SlowEncoder, images_BCHW: Tensor, *, seed: int) -> Tensor:
    """Encode the global batch in one process: share by share of the shuffled order, then put the rows back."""
    order_B = torch.randperm(len(images_BCHW), generator=torch.Generator().manual_seed(seed))
    shares = [slow.head(slow.backbone(images_BCHW[share])) for share in order_B.chunk(WORKERS)]
    keys_BD = torch.empty(len(images_BCHW), 5)
    keys_BD[order_B] = nn.functional.normalize(torch.cat(shares), dim=1)
    return keys_BD


def assert_equal_everywhere(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        first, *others = distributed.gather(tensor[None])
        for other in others:
            torch.testing.assert_close(other, first, rtol=0, atol=0, msg=f"{name} differs between workers")


if __name__ == "__main__":
    rank, meeting = int(sys.argv[1]), sys.argv[2]
    patience = timedelta(seconds=60)  # for a worker whose peer failed
    dist.init_process_group("gloo", f"file://{meeting}", patience, rank=rank, world_size=WORKERS)
    check_rows(rank)
    check_gradient_through_gather(rank)
    check_training(rank)
    check_survey(rank)
    dist.destroy_process_group()
