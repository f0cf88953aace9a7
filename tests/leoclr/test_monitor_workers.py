"""The monitor of a pre-training on two workers; this file is also the program of each worker, on the gloo backend."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from leoclr import backbones, methods
from leoclr.augment.views import TestView
from leoclr.data.contract import DataSet, Split, Stack
from leoclr.evaluate import features
from leoclr.evaluate.knn import KnnSettings
from leoclr.pretrain_settings import PretrainSettings
from leoclr.pretraining import Pretraining, facts
from leoclr.stepping import Place

WORKERS, IMAGES = 2, 33  # an odd number: the workers' shares cannot be equal


def pretraining() -> Pretraining:
    rng = np.random.default_rng(0)
    split = Split(Stack(rng.integers(0, 256, (IMAGES, 12, 12, 3), dtype=np.uint8)), np.arange(IMAGES) % 3)
    data = DataSet("tiny", tuple("abc"), {"train": split, "test": split}, (0.5,) * 3, (0.25,) * 3)
    settings = PretrainSettings(
        image_size=12, epochs=1, batch=4, backbone="resnet18", width=2, stem="stride2", lr=0.1, knn=KnnSettings(k=3)
    )
    torch.manual_seed(0)
    module = methods.module("moco_v2")
    config = module.Config(queue_size=32, dim=8)
    method = module.Method(config, lambda: backbones.build("resnet18", width=2, stem="stride2"), facts(data))
    return Pretraining(
        method, data, settings, module.views(config, 12), seed=0, place=Place(device=torch.device("cpu"))
    )


def check_monitor(rank: int, meeting: str) -> None:
    view, images = TestView(resize=12, size=12), np.arange(IMAGES)[::-1].copy()
    alone = pretraining()
    expected, score = alone._features(images, view), alone.finish()
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORKERS)
    together = pretraining()
    for name, buffer in together.method.named_buffers():
        if name.endswith("running_mean"):
            buffer += rank  # what each worker's own batches leave: those of the first one count
    extract, seen = features.extract, list[int]()
    features.extract = lambda *args, **options: seen.append(len(options["chosen"])) or extract(*args, **options)
    assert together.finish() == score
    torch.testing.assert_close(together._features(images, view), expected)
    assert seen[-1] == (IMAGES + 1) // WORKERS  # each does half of the work
    dist.destroy_process_group()


def test_workers_share_the_images_of_the_monitor_and_see_what_one_sees(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [[sys.executable, __file__, str(rank), str(tmp_path / "meeting")] for rank in range(WORKERS)]
    workers = [subprocess.Popen(each, env=environment, stderr=subprocess.PIPE, text=True) for each in words]
    errors = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)


if __name__ == "__main__":
    check_monitor(int(sys.argv[1]), sys.argv[2])
