"""Two workers train as one worker with all images does: the same losses, weights and queues after a few steps.

Batch norm is synchronized, as RECIPE asks of most; with statistics of each worker's own images nothing could agree. The
test runs this file as a program, once per worker, on the gloo backend, for all methods at once.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from leoclr import distributed
from leoclr.augment.views import View
from leoclr.distributed_norm import convert_sync_batchnorm
from leoclr.methods import module
from leoclr.methods.contract import At, Batch
from tests.small_methods import FACTS, SMALL, batch
from tests.tiny_backbone import Tiny

WORKERS = 2
STEPS = 3
IMAGES = 8  # of all workers
ROOT = Path(__file__).parents[3]
HOLDS = (
    "barlow_twins",
    "byol",
    "clsa",
    "dino",
    "leoclr",
    "leoclr_end_to_end",
    "moco_v2",
    "simclr",
    "simsiam",
    "spcl",
    "supervised",
    "swav",
    "vicreg",
)
"""Methods that promise it."""
OTHER: dict[str, dict[str, Any]] = {  # settings that have another path over the workers
    "clsa": {"bank": "own"},
    "leoclr_end_to_end": {"negatives": "keys", "encoders": "two"},
}
# Rounding key views, of which one worker sends none, is tested with the slow encoder
EXACT: dict[str, dict[str, Any]] = {name: {"shuffle_as": "float32"} for name in ("clsa", "leoclr", "moco_v2")}
PARTS = {"spcl": 2}  # of a batch: first images, then their partners
CASES = [(name, {}) for name in HOLDS] + list(OTHER.items())


def train(case: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Take STEPS steps on this worker's share of the images; return the mean losses of all workers, and the state."""
    name, settings = case
    torch.manual_seed(0)
    config = module(name).Config(**{**SMALL[name], **EXACT.get(name, {}), **settings})
    method = module(name).Method(config, Tiny, FACTS).double()
    wrapped = distributed.wrap(convert_sync_batchnorm(method), torch.device("cpu"))
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    method.start_epoch(Look(module(name).views(config, 16)))
    generator, losses = torch.Generator().manual_seed(1), []
    for step in range(STEPS):
        at = At(step, total=STEPS, epoch=0, epochs=1)
        shown = batch(name, images=IMAGES, size=16, generator=generator, dtype=torch.float64)
        method.before_step(at)
        done = wrapped(share(shown, parts=PARTS.get(name, 1)))
        optimizer.zero_grad()
        done.loss.backward()
        method.after_backward(at)
        optimizer.step()
        method.update(done)
        losses.append(distributed.gather(done.loss[None]).mean())
    return {"losses": losses, "state": method.state_dict()}


def share(shown: Batch, *, parts: int) -> Batch:
    """Return this worker's share of each of the `parts` of a batch."""
    mine = torch.arange(IMAGES).view(parts, distributed.world_size(), -1)[:, distributed.rank()].flatten()
    assert shown.images_N is not None
    assert shown.classes_N is not None
    return Batch(tuple(view[mine] for view in shown.views), shown.images_N[mine], shown.classes_N[mine])


@dataclass(frozen=True)
class Look:
    """A survey that gives each worker other features, as if its device summed in another order: worker 0's count."""

    views: tuple[View, ...]
    epoch: int = 0
    seed: int = 5

    def features(self, view: View) -> Tensor:
        return torch.randn(FACTS.images, 6, generator=torch.Generator().manual_seed(distributed.rank()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What each of two workers got from every case."""
    folder = tmp_path_factory.mktemp("workers")
    command = [sys.executable, "-m", "tests.leoclr.methods.test_two_workers"]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORKERS)
    ]
    errors = [worker.communicate(timeout=280)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORKERS)]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[f"{name}{settings or ''}" for name, settings in CASES])
def test_two_workers_train_as_one_does(place: int, shared: list[list[dict[str, Any]]]) -> None:
    expected = train(CASES[place])
    for got in shared:
        torch.testing.assert_close(got[place], expected, rtol=1e-9, atol=1e-11)


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    patience = timedelta(seconds=240)  # for a worker whose peer failed
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", patience, rank=rank, world_size=WORKERS)
    torch.save([train(case) for case in CASES], folder / f"{rank}.pt")
    dist.destroy_process_group()
