"""A node that drains stops its stage after the same step on all workers, and costs no step."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from jobs import preemption
from jobs.preemption import Watch

CPU = torch.device("cpu")


def wait(watch: Watch, total: int = 1) -> bool:
    deadline = time.monotonic() + 5
    while not watch.stops(total) and time.monotonic() < deadline:
        time.sleep(0.01)
    return watch.stops(total)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "ASK_S", 0.02)


def test_a_worker_stops_when_its_node_drains_and_not_before() -> None:
    nodes: list[str] = ["other"]
    watch = Watch(CPU, {"own": lambda: nodes})
    time.sleep(0.1)
    assert not watch.stops(1)
    nodes.append("own")
    assert wait(watch)
    watch.close()


def test_who_is_closed_asks_no_more() -> None:
    asked: list[int] = []

    def ask() -> Collection[str]:
        asked.append(1)
        return ()

    watch = Watch(CPU, {"own": ask})
    time.sleep(0.1)
    watch.close()
    time.sleep(0.05)
    before = len(asked)
    time.sleep(0.1)
    assert (before > 0, len(asked)) == (True, before)


def test_outside_ray_nobody_is_asked() -> None:
    watch = Watch(CPU)
    time.sleep(0.05)
    assert not watch.stops(1)


def _worker(rank: int, folder: str) -> None:
    preemption.ASK_S = 0.05
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    noticed = Path(folder, "drains")

    def draining() -> Collection[str]:  # the node of the second worker, of which only the first hears
        assert rank == 0
        return ["node 1"] if noticed.exists() else []

    watch, total, messages = Watch(CPU, {f"node {rank}": draining}), 0, 0
    real = dist.broadcast_object_list

    def counted(*arguments: object, **options: object) -> None:
        nonlocal messages
        messages += 1
        real(*arguments, **options)  # type: ignore[arg-type]

    preemption.dist.broadcast_object_list = counted  # type: ignore[assignment]
    while not watch.stops(total := total + 1):
        time.sleep(0.001 * (1 + rank))  # one worker is slower than the other
        dist.barrier()  # as the exchange of gradients
        if total == 300:
            noticed.touch()
        assert total < 5000
    Path(folder, f"{rank}").write_text(f"{total} {messages}")
    dist.destroy_process_group()


def test_all_workers_stop_after_the_same_step_and_rarely_speak_of_it(tmp_path: Path) -> None:
    multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    (first, messages), (second, _) = (map(int, (tmp_path / name).read_text().split()) for name in "01")
    assert first == second > 300
    assert messages < first / 4
