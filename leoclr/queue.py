"""A first-in first-out memory of keys, the negatives of momentum contrast.

K keys in the queue, D embedding values, B keys of the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Queue(nn.Module):
    """Hold the last K keys that were pushed; `push` is the only mutation.

    It starts as K random unit rows, drawn from torch's global generator at construction. The rows are in ring order:
    the oldest key is at `pointer`.
    Source: He et al. 2020, arXiv:1911.05722, algorithm 1, and
    https://github.com/facebookresearch/moco/blob/4397a04ed63a95c4a157f017a71883944003b615/moco/builder.py, which
    asserts that K is a multiple of the batch. This one takes any batch: the LeOCLR paper's (256 on three GPUs) divides
    no power of two.

    >>> queue = Queue(3, 2)
    >>> queue.push(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> queue.keys_KD[:2].tolist(), queue.pointer.item()
    ([[1.0, 0.0], [0.0, 1.0]], 2)
    """

    keys_KD: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        """Make a queue of `size` keys of `dim` values. Raises: ValueError when either is below 1."""
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a queue needs at least one key of one value, not {size} of {dim}")
        self.register_buffer("keys_KD", functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys_BD: Tensor) -> None:
        """Replace the B oldest keys by `keys_BD`, in order; of more than K keys, the last K stay.

        With several workers each pushes the same gathered keys, so that their queues stay equal.
        """
        size = len(self.keys_KD)
        kept_BD = keys_BD[-size:]
        first = len(keys_BD) - len(kept_BD)
        # The pointer stays a tensor: reading it on the host would wait for the accelerator at every step.
        slots_B = (self.pointer + torch.arange(first, len(keys_BD), device=keys_BD.device)) % size
        self.keys_KD.index_copy_(0, slots_B, kept_BD.to(self.keys_KD.dtype))
        self.pointer.add_(len(keys_BD)).remainder_(size)
