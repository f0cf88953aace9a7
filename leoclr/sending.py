"""The way of tensors from the host to a device, which does not wait for what the device has yet to do."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of the host on `device`. CUDA fetches it when its turn comes; the host goes on at once.

    It goes by pinned memory: from other memory CUDA "may synchronize with the stream" before it copies (NVIDIA, CUDA
    Runtime API, "API synchronization behavior"). torch keeps the pinned copy until it was fetched.
    """
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()  # itself where it is pinned
    return tensor.to(device, non_blocking=True)
