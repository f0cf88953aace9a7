"""A step in parts is the step of the whole batch, on two workers too, waits for nothing and leaves nothing behind.

The test of two workers runs this file as a program, once per worker, on the gloo backend.
"""

import contextlib
import gc
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from leoclr import distributed
from leoclr.backbones import build
from leoclr.methods import METHODS, module
from leoclr.methods.contract import At, Batch, Method
from leoclr.pretrain_settings import PretrainSettings
from leoclr.stepping import Place, Stepper
from tests.small_methods import FACTS, SMALL, batch
from tests.tiny_backbone import Tiny

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
IMAGES, STEPS, WORKERS = 8, 3, 2
SETTINGS = PretrainSettings(epochs=1, batch=IMAGES, image_size=16)
TRAINED = sorted(name for name in METHODS if module(name).TRAINS)
APART: dict[str, dict[str, Any]] = {  # methods whose batch may come in parts, with the settings that this takes
    "byol": {},
    "clsa": {"bank": "own"},
    "dino": {},
    "leoclr": {},
    "moco_v2": {},
    "simsiam": {},
    "supervised": {},
}


def method_of(name: str, backbone: Any = Tiny, **settings: Any) -> Method:
    torch.manual_seed(0)
    made: Method = module(name).Method(module(name).Config(**{**SMALL[name], **settings}), backbone, FACTS)
    return made


def stepper_of(name: str, *, parts: int, settings: dict[str, Any]) -> Stepper:
    """Return what trains in float64, with batch norm that does not look at its batch."""
    method = method_of(name, **settings).double().eval()
    return Stepper(method, replace(SETTINGS, accumulate=parts), Place(device=CPU))


def whole(name: str, step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return batch(name, images=IMAGES, size=16, generator=generator, dtype=torch.float64)


def split(shown: Batch, parts: int) -> list[Batch]:
    assert shown.images_N is not None
    assert shown.classes_N is not None
    views = zip(*(view.chunk(parts) for view in shown.views), strict=True)
    others = zip(shown.images_N.chunk(parts), shown.classes_N.chunk(parts), strict=True)
    return [Batch(tuple(part), images_N, classes_N) for part, (images_N, classes_N) in zip(views, others, strict=True)]


def train(stepper: Stepper, name: str, *, parts: int) -> dict[str, Any]:
    """Take STEPS steps on this worker's share of the images; return the losses of all workers and the state."""
    losses = []
    for step in range(STEPS):
        mine = split(whole(name, step), distributed.world_size())[distributed.rank()]
        done = stepper.take(split(mine, parts), At(step, STEPS, 0, 1), lr=0.1)
        losses.append(distributed.gather(done.loss[None]).mean())
    return {"losses": losses, "state": stepper.method.state_dict()}


@pytest.mark.parametrize("name", sorted(APART))
def test_a_batch_in_parts_trains_as_the_whole_one(name: str) -> None:
    expected = train(stepper_of(name, parts=1, settings=APART[name]), name, parts=1)
    start = method_of(name, **APART[name]).double().state_dict()
    assert not torch.equal(expected["state"]["backbone.0.weight"], start["backbone.0.weight"])
    for parts in (2, 4):
        got = train(stepper_of(name, parts=parts, settings=APART[name]), name, parts=parts)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in APART or APART[name]])
def test_a_loss_that_compares_images_refuses_parts(name: str) -> None:
    with pytest.raises(ValueError, match="^accumulate: "):
        Stepper(method_of(name), replace(SETTINGS, accumulate=2), Place(device=CPU))


def test_batch_norm_sees_the_parts_and_the_queue_gets_all_keys() -> None:
    stepper = Stepper(method_of("moco_v2"), replace(SETTINGS, accumulate=4), Place(device=CPU))
    stepper.train()
    parts = split(batch("moco_v2", images=8, size=16, generator=torch.Generator(), dtype=torch.float32), 4)
    stepper.take(parts, At(0, 1, 0, 1), lr=0.1)
    state = stepper.method.state_dict()
    assert state["backbone.1.num_batches_tracked"] == 4
    assert state["queue.pointer"] == IMAGES


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_reads_what_the_device_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has no numbers to read: item, bool, nonzero, a boolean mask or a copy to the host all raise."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not know that device
    meta = torch.device("meta")
    stepper = Stepper(method_of(name, lambda: build("resnet18", width=2, stem="stride2")), SETTINGS, Place(device=meta))
    stepper.train()
    shown = batch(name, images=IMAGES, size=16, generator=torch.Generator(), dtype=torch.float32)
    assert shown.images_N is not None
    assert shown.classes_N is not None
    there = Batch(tuple(view.to(meta) for view in shown.views), shown.images_N.to(meta), shown.classes_N.to(meta))
    for step in range(2):
        done = stepper.take([there], At(step, 2, 0, 1), lr=0.1)
    assert {done.loss.device, *(value.device for _, value in done.watch)} == {meta}


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_is_flat_over_a_thousand_steps(precision: Any) -> None:
    torch.set_num_threads(1)
    settings = replace(SETTINGS, precision=precision, accumulate=2)
    stepper = Stepper(method_of("leoclr"), settings, Place(device=CPU))
    stepper.train()
    parts = split(batch("leoclr", images=IMAGES, size=16, generator=torch.Generator(), dtype=torch.float32), 2)
    seen = []
    for step in range(1_100):
        stepper.take(parts, At(step, 1_100, 0, 1), lr=0.001)
        if step % 100 == 99:
            seen.append((tensors(), psutil.Process().memory_info().rss))
    counts, resident = zip(*seen[1:], strict=True)  # the first hundred fill torch's caches
    assert len(set(counts)) == 1
    assert resident[-1] - resident[0] < 2**20  # a kilobyte a step would be a leak of 1 MB


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two workers got."""
    folder = tmp_path_factory.mktemp("workers")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.leoclr.test_stepping"]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(WORKERS)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORKERS)]


def test_two_workers_with_parts_train_as_one_without(shared: list[dict[str, Any]]) -> None:
    expected = train(stepper_of("leoclr", parts=1, settings={}), "leoclr", parts=1)
    for got in shared:
        torch.testing.assert_close(got["trained"], expected, rtol=1e-10, atol=1e-12)


def test_workers_exchange_gradients_once_a_step(shared: list[dict[str, Any]]) -> None:
    assert [got["exchanges"] for got in shared] == [STEPS] * WORKERS


def count_exchanges(stepper: Stepper) -> list[int]:
    """Return a list that grows by one whenever DDP averages a bucket of gradients; a tiny network has one bucket."""
    seen: list[int] = []

    def hook(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        seen.append(bucket.index())
        sent = bucket.buffer() / WORKERS
        return dist.all_reduce(sent, async_op=True).get_future().then(lambda future: future.value()[0])

    stepper._train.register_comm_hook(None, hook)
    return seen


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    patience = timedelta(seconds=60)  # for a worker whose peer failed
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", patience, rank=rank, world_size=WORKERS)
    stepper = stepper_of("leoclr", parts=2, settings={"shuffle_as": "float32"})
    exchanges = count_exchanges(stepper)
    trained = train(stepper, "leoclr", parts=2)
    torch.save({"trained": trained, "exchanges": len(exchanges)}, folder / f"{rank}.pt")
    dist.destroy_process_group()
