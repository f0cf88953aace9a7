"""What several workers do together. Without a process group there is one worker, and all of this is the identity.

N rows of one worker, B rows of all workers in rank order (B = N x world size; each worker has the same N).
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Return this worker's number, 0 without a process group."""
    return dist.get_rank() if _is_up() else 0


def world_size() -> int:
    """Return the number of workers, 1 without a process group."""
    return dist.get_world_size() if _is_up() else 1


@torch.no_grad()
def gather(rows_N: Tensor) -> Tensor:
    """Return the rows of all workers [B, ...] in rank order, without gradient; every worker must call it."""
    if world_size() == 1:
        return rows_N.detach()
    parts = [torch.empty_like(rows_N, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, rows_N.contiguous())
    return torch.cat(parts)


def gather_with_gradient(rows_N: Tensor) -> Tensor:
    """Return the rows of all workers [B, ...] in rank order; every worker must call it.

    The gradient of a worker's rows is the sum of what all workers' losses say of them. With the mean over workers that
    `wrap` takes, the network is trained on the mean of the workers' losses, as one worker with all rows would be.
    """
    if world_size() == 1:
        return rows_N
    gathered: Tensor = _Gather.apply(rows_N)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_N: Tensor) -> Tensor:
        ctx.own = slice(rank() * len(rows_N), (rank() + 1) * len(rows_N))
        return gather(rows_N)

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> Tensor:
        total_B = gradient_B.contiguous().clone()
        dist.all_reduce(total_B)
        own: Tensor = total_B[ctx.own]
        return own


def shuffle(rows_N: Tensor, *, seed: int, even_alone: bool = False) -> tuple[Tensor, Tensor]:
    """Return a random share [N, ...] of all workers' rows, and the order [B] that `unshuffle` needs.

    Row i of worker r is row `order[r * N + i]` of the gathered batch. Equal seeds give equal orders on every worker.
    One worker's rows stay in their order, unless `even_alone`: for batch norm that looks at parts of its batch.
    Source: "Shuffling BN" of He et al. 2020, arXiv:1911.05722, section 3.3.
    """
    workers, this = world_size(), rank()
    if workers == 1 and not even_alone:
        return rows_N, torch.arange(len(rows_N))
    # facebookresearch/moco draws from rank 0's running generator and broadcasts. An order drawn from a counter is the
    # same everywhere without a message, and the same again when a stopped run continues.
    order_B = torch.randperm(len(rows_N) * workers, generator=torch.Generator().manual_seed(seed))
    return gather(rows_N)[_sent(order_B.chunk(workers)[this], rows_N)], order_B


def unshuffle(rows_N: Tensor, order_B: Tensor) -> Tensor:
    """Return this worker's own rows, in its own order, after `shuffle` spread them; without gradient."""
    workers, this = world_size(), rank()
    return gather(rows_N)[_sent(order_B.argsort().chunk(workers)[this], rows_N)]


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """Return `module` ready to train on all workers: gradients are averaged; all start from worker 0's state.

    The module itself comes back without a process group, or when it has no parameter that needs a gradient. It must
    already be on `device`. Buffers are made equal once, here: queues stay equal because all push the same keys, and
    batch-norm statistics stay each worker's own (worker 0's are saved, which is what broadcasting at each step keeps).
    """
    if not _is_up() or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    share_buffers(module)
    device_ids = [device] if device.type == "cuda" else None
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters:
        return DistributedDataParallel(module, device_ids=device_ids, forward_sync_buffers=False)
    # torch 2.11 knows the older name only; newer ones warn about it.
    return DistributedDataParallel(module, device_ids=device_ids, broadcast_buffers=False)


def share_buffers(module: nn.Module) -> None:
    """Give every worker the buffers of worker 0, batch-norm statistics among them; every worker must call it."""
    if _is_up():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def _sent(order_N: Tensor, rows: Tensor) -> Tensor:
    return order_N.to(rows.device, non_blocking=True)  # the host does not wait for what the device has yet to do


def _is_up() -> bool:
    return dist.is_available() and dist.is_initialized()
