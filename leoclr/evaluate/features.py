"""Run a model over a split without training it: features of a backbone, scores of a classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leoclr.augment.evaluation import evaluation_batches
from leoclr.augment.views import TestView
from leoclr.data.contract import DataSet

BATCH = 256
"""Images that go through a model at once; moves numbers by no more than the rounding of the device's kernels."""


def extract(
    model: nn.Module,
    data: DataSet,
    split: str,
    *,
    view: TestView,
    device: torch.device,
    chosen: NDArray[np.int64] | None = None,
    workers: int = 0,
) -> Tensor:
    """Return what `model` gives for each image of `split`, or of those `chosen`: [N, F] on `device`, without gradient.

    Rows are in the order of the images, or of `chosen`. The model runs in evaluation mode and is handed back in the
    modes that it came in. `workers` processes read the images. Raises: ValueError without images.
    """
    images = data.splits[split].images
    indices = np.arange(len(images), dtype=np.int64) if chosen is None else chosen
    plan = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
    batches = evaluation_batches(images, plan, view, mean=data.mean, std=data.std, device=device, workers=workers)
    rows_NF: Tensor | None = None  # filled batch by batch: to join parts would hold ImageNet's 10 GB twice
    with evaluating(model), torch.no_grad():
        for start, images_BCHW in zip(range(0, len(indices), BATCH), batches, strict=True):
            part_BF = model(images_BCHW)
            if rows_NF is None:
                rows_NF = part_BF.new_empty((len(indices), *part_BF.shape[1:]))
            rows_NF[start : start + len(part_BF)] = part_BF
    if rows_NF is None:
        raise ValueError(f"{data.name}: no image of {split} to extract features of")
    return rows_NF


def labels(data: DataSet, split: str, device: torch.device) -> Tensor:
    """Return the classes of `split`, int64 [N] on `device`."""
    return torch.from_numpy(np.ascontiguousarray(data.splits[split].labels)).to(device)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode inside the block; each module has its own mode again after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from `seed` inside the block, and leave its generators as they were.

    For what has no generator argument: initial weights, torchvision's samplers of anchors and regions. Nothing then
    hangs on a generator that has been running, so a continued run draws what the undisturbed one drew.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def digest(module: nn.Module) -> str:
    """Return the sha256 (hex) of all parameters and buffers with their names."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
