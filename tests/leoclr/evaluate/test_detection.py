"""Detection learns, ends after its iterations, and continues bit for bit from any step.

The test of several workers runs this file as a program, once per worker, on the gloo backend.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import nn

from leoclr import backbones, distributed
from leoclr.data.contract import Boxes, DataSet, Split, Stack
from leoclr.evaluate.detection import Detection
from leoclr.evaluate.detection_protocols import MoCoVoc
from leoclr.evaluate.detector_settings import DetectorSettings
from leoclr.evaluate.metrics import Predictions

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "detector": DetectorSettings(
        anchor_sizes=(8, 12), anchor_ratios=(1.0,), anchors=16, proposals=(20, 10), regions=8, pool=4
    ),
    "iterations": 8,
    "batch": 4,
    "warmup": 3,
    "milestones": (6,),
    "train_sides": (28, 32, 36),
    "test_side": 32,
    "precise_bn_steps": 3,
}


def squares(count: int, seed: int) -> Split:
    """Scenes of 32 x 32 pixels with one bright (class 1) or striped (class 2) square."""
    rng = np.random.default_rng(seed)
    images, scenes = rng.integers(0, 40, (count, 32, 32, 3), dtype=np.uint8), []
    for image in images:
        side, label = int(rng.integers(8, 14)), int(rng.integers(1, 3))
        x, y = rng.integers(0, 32 - side, 2)
        image[y : y + side : label, x : x + side] = 255
        box = np.array([[x, y, x + side, y + side]], np.float32)
        scenes.append(Boxes(box, np.array([label]), np.zeros(1, bool)))
    return Split(Stack(images), np.empty(0, np.int64), scenes)


@pytest.fixture(scope="module", name="data")
def data_fixture() -> DataSet:
    return data_set()


def data_set() -> DataSet:
    splits = {"train": squares(14, 0), "test": squares(8, 1)}
    return DataSet("squares", ("bright", "striped"), splits, (0.2,) * 3, (0.3,) * 3)


def detection(data: DataSet, **settings: Any) -> Detection:
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", width=4, stem="stride2")
    return Detection(backbone, data, settings=MoCoVoc(**SMALL | settings), seed=1, device=CPU)


def train(work: Detection, start: int = 0, stop: int = 10_000) -> list[float]:
    losses = []
    position = 0
    for epoch in range(work.epochs):
        steps = work.steps(epoch)
        if start < position + steps:
            work.start_epoch(epoch, max(start - position, 0))
        for step in range(position, position + steps):
            if start <= step < stop:
                losses.append(float(work.train_step()["loss"]))
        position += steps
    return losses


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def test_epochs_are_passes_over_the_scenes_and_end_at_the_iterations(data: DataSet) -> None:
    work = detection(data)  # 14 scenes, batches of 4
    assert [work.steps(epoch) for epoch in range(work.epochs)] == [3, 3, 2]


def test_a_continued_run_is_the_undisturbed_one_whatever_the_generator_did(data: DataSet) -> None:
    whole = detection(data)
    losses = train(whole)
    assert len(losses) == 8
    first = detection(data)
    head = train(first, stop=4)
    second = detection(data)
    second.load(saved(first.state()))
    torch.rand(100)  # another process has another global generator
    assert head + train(second, start=4) == losses
    ours, theirs = second.state()["detector"], whole.state()["detector"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert second.finish() == whole.finish()


def test_training_leaves_the_global_generator_alone(data: DataSet) -> None:
    torch.manual_seed(3)
    undisturbed = torch.rand(4)
    work = detection(data)
    torch.manual_seed(3)
    train(work, stop=2)
    assert torch.equal(torch.rand(4), undisturbed)


def test_it_learns_to_find_squares(data: DataSet) -> None:
    work = detection(data, iterations=80, lr=0.05, warmup=5, milestones=(60,), train_sides=(32,))
    losses = train(work)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    scores = work.finish()
    assert set(scores) == {"ap", "ap50", "ap75"}
    untrained = detection(data).finish()
    assert scores["ap50"] > untrained["ap50"] + 15


def test_batch_norm_is_measured_over_batches_after_training_with_fixed_weights(data: DataSet) -> None:
    work = detection(data)
    norm = work._detector.regions.norm
    cells: list[torch.Tensor] = []
    norm.register_forward_hook(
        lambda _, inputs, __: cells.append(inputs[0].transpose(0, 1).flatten(1)) if norm.training else None
    )
    weights = {name: value.clone() for name, value in work._detector.named_parameters()}
    work.finish()
    assert len(cells) == 3
    torch.testing.assert_close(norm.running_mean, torch.cat(cells, dim=1).mean(1))
    torch.testing.assert_close(norm.running_var, torch.cat(cells, dim=1).var(1, correction=0))
    assert all(torch.equal(value, weights[name]) for name, value in work._detector.named_parameters())


def test_the_protocol_says_which_score(data: DataSet) -> None:
    scores = {kind: detection(data, score=kind, precise_bn_steps=0) for kind in ("voc07", "voc_area", "coco")}
    found = [
        Predictions(np.concatenate([scene.boxes, scene.boxes + 9]), np.tile(scene.labels, 2), np.float32([score, 0.5]))
        for score, scene in enumerate(data.splits["test"].scenes)
    ]
    voc07, area, coco = (scores[kind]._score(found) for kind in ("voc07", "voc_area", "coco"))
    assert set(voc07) == set(area) == {"ap", "ap50", "ap75"}
    assert voc07["ap"] != area["ap"]
    assert {"ap", "ap50", "ap75", "ap_small"} == set(coco)


def test_batch_norm_has_its_own_weight_decay_and_biases_the_common_one(data: DataSet) -> None:
    work = detection(data, weight_decay=0.5)
    others, norms = work._optimizer.param_groups
    assert (others["weight_decay"], norms["weight_decay"]) == (0.5, 0.0)
    modules = [m for m in work._detector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {id(p) for p in norms["params"]} == {id(p) for m in modules for p in (m.weight, m.bias)}
    assert len(others["params"]) + len(norms["params"]) == len(list(work._detector.parameters()))


@pytest.mark.slow
def test_two_workers_hold_one_detector(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path / "meeting")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 2, "\n".join(errors)


def check_two_workers(rank: int) -> None:
    """Train and measure; weights and statistics stay equal on both, though each saw its own scenes."""
    work = detection(data_set(), iterations=3, precise_bn_steps=2)
    norm, mine = work._detector.regions.norm, []
    norm.register_forward_hook(lambda _, inputs, __: mine.append(inputs[0]) if norm.training else None)
    losses = torch.tensor(train(work))
    assert not torch.equal(*distributed.gather(losses[None]))
    scores = torch.tensor(list(work.finish().values()))
    assert torch.equal(*distributed.gather(scores[None]))
    for name, tensor in work.state()["detector"].items():
        assert torch.equal(*distributed.gather(tensor[None])), name
    cells = torch.cat(mine[-2:]).transpose(0, 1).flatten(1)  # of this worker, in the batches that measure
    both = distributed.gather(torch.stack([cells.sum(1), torch.full((cells.shape[0],), cells.shape[1])])[None]).sum(0)
    torch.testing.assert_close(norm.running_mean, both[0] / both[1])


if __name__ == "__main__":
    rank, meeting = int(sys.argv[1]), sys.argv[2]
    patience = timedelta(seconds=60)  # for a worker whose peer failed
    dist.init_process_group("gloo", f"file://{meeting}", patience, rank=rank, world_size=2)
    check_two_workers(rank)
    dist.destroy_process_group()
