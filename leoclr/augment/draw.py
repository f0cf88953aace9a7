"""Random numbers from counters: what is drawn for an image depends on its place in the run, on nothing that ran before.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed
bijection of a 128-bit counter. Key: the 64 bits of the seed. Counter words: block of four numbers, image, epoch,
stream.
So no batch, worker, rank or device changes a number, and two streams never overlap.

It runs in numpy, on the CPU: eight times faster there than as torch operations for the few thousand numbers of a batch,
and overflow of uint64 is defined. Parameters drawn on the CPU also tell, without waiting for a device, which images an
operation touches.

Axes: N images, U random numbers of an image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROUNDS = 10
_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# Multipliers and key increments of Random123, include/Random123/philox.h (PHILOX_M4x32_*, PHILOX_W32_*).
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_INCREMENTS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)


def uniform(seed: int, epoch: int, indices_N: Tensor, *, stream: int, count: int) -> Tensor:
    """Return float32 [N, count] in [0, 1), multiples of 2**-24, on the device of `indices_N`.

    Row n is a function of (seed, epoch, indices_N[n], stream) only. `count` does not matter to the first numbers: a
    longer draw begins with the shorter one. Indices are 0..2**32-1.

    Raises: ValueError when seed is outside 0..2**64-1, or epoch or stream outside 0..2**32-1.

    >>> image = torch.tensor([7])
    >>> bool((uniform(0, 1, image, stream=0, count=8)[:, :3] == uniform(0, 1, image, stream=0, count=3)).all())
    True
    """
    _require("seed", seed, bits=64)
    _require("epoch", epoch, bits=32)
    _require("stream", stream, bits=32)
    blocks = -(-count // 4)
    counter = np.empty((4, len(indices_N), blocks), np.uint64)
    counter[0], counter[1] = np.arange(blocks), indices_N.numpy(force=True)[:, None]
    counter[2], counter[3] = epoch, stream
    words = philox(counter, key=(seed & 0xFFFFFFFF, seed >> 32))
    words_NU = np.moveaxis(words, 0, -1).reshape(len(indices_N), 4 * blocks)[:, :count]
    # 24 bits: all that a float32 in [0, 1) holds evenly.
    uniforms_NU = (words_NU >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return torch.from_numpy(uniforms_NU).to(indices_N.device, non_blocking=True)


def philox(counter: NDArray[np.uint64], *, key: tuple[int, int]) -> NDArray[np.uint64]:
    """Return the four output words of Philox4x32-10 for four counter words: [4, ...], each 0..2**32-1.

    Source: Random123, include/Random123/philox.h, philox4x32_R(10, counter, key).
    """
    column = (2,) + (1,) * (counter.ndim - 1)
    multipliers, increments = _MULTIPLIERS.reshape(column), _INCREMENTS.reshape(column)
    keys = np.array(key, np.uint64).reshape(column)
    even, odd = counter[0::2], counter[1::2]
    for _ in range(_ROUNDS):
        product = (even * multipliers)[::-1]
        even, odd = (product >> _HALF) ^ odd ^ keys, product & _WORD
        keys = (keys + increments) & _WORD
    return np.stack((even, odd), axis=1).reshape(counter.shape)


def _require(name: str, value: int, *, bits: int) -> None:
    if not 0 <= value < 2**bits:
        raise ValueError(f"{name}: {value} must be between 0 and 2**{bits} - 1")
