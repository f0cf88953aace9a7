"""A node that is taken away: its stages checkpoint in time, stop, and go on elsewhere.

Ray is told that a node will be gone soon (a spot instance is reclaimed, a cluster shrinks) and says that it *drains*. A
thread of the first worker asks which nodes do. All workers of a stage must stop after the same step, so about once in
`ASK_S` seconds the first tells the others what it knows, and at which step it will be asked next: one small message a
second, and none at the steps in between. (`ray.train.get_preemption_info` is a barrier at each call, and a single
worker in a warm process has none.)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import distributed as dist

from leoclr import distributed

ASK_S = 1.0  # between two questions to Ray, and between two agreements of the workers
FARTHEST = 1000  # steps from one agreement to the next, at most

log = logging.getLogger("leoclr")

Draining = Callable[[], Collection[str]]  # the nodes that drain


class Preempted(RuntimeError):
    """A node of the stage is taken away; a checkpoint was made, and the stage goes on elsewhere."""


class Watch:
    """Watches the nodes of one stage's workers; each worker makes one, at the same place of its code."""

    def __init__(self, device: torch.device, nodes: Mapping[str, Draining] | None = None) -> None:
        """Begin to watch; `nodes` names this worker's node, and how to ask which drain (default: Ray)."""
        own = _ray_node() if nodes is None else nodes
        self._device, self._next_step = device, 0
        self._asked: tuple[float, int] | None = None  # when the workers agreed last, and after which step
        self._nodes = _all(next(iter(own), ""), device)
        self._draining = threading.Event()
        self._over = threading.Event()
        if distributed.rank() == 0 and own:
            ask = next(iter(own.values()))
            threading.Thread(target=self._follow, args=(ask,), name="preemption", daemon=True).start()

    def stops(self, total: int) -> bool:
        """Return whether all workers are to stop after step `total`, counted over all epochs; asked after each step."""
        if distributed.world_size() == 1:
            return self._draining.is_set()
        if total < self._next_step:
            return False
        answer: list[Any] = [self._draining.is_set(), total + self._steps_ahead(total)]
        dist.broadcast_object_list(answer, src=0, device=self._device)
        stop, self._next_step = answer
        return bool(stop)

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    def _steps_ahead(self, total: int) -> int:
        """Return how many steps take about ASK_S seconds, by the time since the last agreement."""
        now, before = time.monotonic(), self._asked
        self._asked = now, total
        if before is None:
            return 1
        return max(1, min(FARTHEST, int((total - before[1]) * ASK_S / max(now - before[0], 1e-6))))

    def _follow(self, ask: Draining) -> None:
        while not self._over.wait(ASK_S):
            if self._nodes & set(ask()):
                self._draining.set()
                return


def _all(own: str, device: torch.device) -> set[str]:
    """Return the nodes of all workers."""
    found = [own]
    for rank in range(distributed.world_size()):
        if distributed.world_size() > 1:
            answer: list[Any] = [own]
            dist.broadcast_object_list(answer, src=rank, device=device)
            found += answer
    return set(filter(None, found))


def _ray_node() -> dict[str, Draining]:
    """Return this worker's node and how to ask Ray which drain; nothing outside Ray."""
    import ray

    if not ray.is_initialized():
        return {}
    return {ray.get_runtime_context().get_node_id(): _draining}


def _draining() -> Collection[str]:
    """Return the nodes that drain; none while the head does not answer, as after its restart."""
    from ray._private.state import state  # what Ray Train's own PreemptionWatcher asks

    try:
        nodes: Collection[str] = state.get_draining_nodes()
    except Exception as error:  # noqa: BLE001  # Ray's binding raises several kinds, and the next question may do
        log.debug("Ray does not say which nodes drain: %s", error)
        return ()
    return nodes
