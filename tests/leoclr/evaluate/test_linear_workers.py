"""Several rates on two workers; this file is also the program of each worker, on the gloo backend."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from leoclr import backbones
from leoclr.augment.views import TestView
from leoclr.data.contract import UNLABELED, DataSet, Split, Stack
from leoclr.evaluate.linear import LinearProbe
from leoclr.evaluate.linear_protocols import LinearSettings
from leoclr.evaluate.validation import hold_out

WORKERS = 2
RATES = (0.05, 2.0, 0.5)


def data(*, without_held: bool = False) -> DataSet:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    images = ((labels * 60)[:, None, None, None] + rng.integers(0, 60, (40, 12, 12, 3))).astype(np.uint8)
    split = Split(Stack(images), labels)
    made = DataSet("tiny", tuple("abcd"), {"train": split, "test": split}, (0.5,) * 3, (0.25,) * 3)
    if without_held:
        _, held = hold_out(made, how="balanced", images=None, seed=1)
        labels[held] = UNLABELED
    return made


def trained(images: DataSet, lrs: tuple[float, ...]) -> LinearProbe:
    torch.manual_seed(0)
    settings = LinearSettings(view=TestView(resize=12, size=12), epochs=2, batch=8, lrs=lrs, refit=False)
    backbone = backbones.build("resnet18", width=2, stem="stride2")
    work = LinearProbe(backbone, images, settings=settings, seed=1, device=torch.device("cpu"))
    for epoch in range(work.epochs):
        work.start_epoch(epoch, 0)
        for _ in range(work.steps(epoch)):
            assert work.train_step()["images"] == 8
        work.end_epoch(epoch)
    return work


def check_rates() -> None:
    together = trained(data(), RATES).state()["heads"]
    for which, lr in enumerate(RATES):
        alone = trained(data(without_held=True), (lr,)).state()["heads"]
        for name in ("weight", "bias"):
            assert torch.equal(together[f"heads.{which}.{name}"], alone[f"heads.0.{name}"]), (lr, name)
    first = torch.cat([weight.flatten() for weight in together.values()])
    dist.broadcast(first, src=0)
    assert torch.equal(first, torch.cat([weight.flatten() for weight in together.values()]))


def test_rates_side_by_side_are_bit_for_bit_separate_runs_on_two_workers(tmp_path: Path) -> None:
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
    errors = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)


if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=WORKERS)
    check_rates()
    dist.destroy_process_group()
