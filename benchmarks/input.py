"""Making LeOCLR's three views beside Pillow, as facebookresearch/moco uses it, and beside kornia.

    python -m benchmarks.input [--rounds N] [--json FILE]

On one core. A worker reads and crops and hands over bytes; colors are then the training device's, so that figure holds
for a machine with a GPU. The whole pipeline ends with normalized floats on both sides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks import pairs
from benchmarks.input_peers import MEAN, STD, Kornia, Moco
from benchmarks.pairs import Figure
from benchmarks.photos import small_photos, write_photos
from leoclr import data
from leoclr.augment.loader import ViewLoader, read_crops
from leoclr.augment.views import View
from leoclr.data.contract import Images, Stack
from leoclr.data.shrinking import Shrinking
from leoclr.methods.leoclr import Config, views
from orchestration import packing

PHOTOS = 24  # of one timing
SMALL, SIDE = 512, 32  # images of one timing in memory, and their side
PEER = "facebookresearch/moco by Pillow"


def figures(rounds: int) -> Iterator[Figure]:
    """Yield the figures."""
    torch.manual_seed(0)
    with pairs.one_core(), tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        write_photos(root, train=PHOTOS)
        yield from _from_photos(root, rounds)
        yield from _in_memory(rounds)


def _from_photos(root: Path, rounds: int) -> Iterator[Figure]:
    shown = views(Config(), 224)
    images, indices = _train(root), np.arange(PHOTOS)
    peer = (PEER, partial(Moco(shown).from_files, sorted((root / "train" / "photo").iterdir())))
    goals: dict[str, tuple[Images, float]] = {
        "files": (images, 6),
        "a JPEG store": (_packed(root, "jpeg"), 10),
        "a raw store": (_packed(root, "raw"), 16),
    }
    for source, (stored, goal) in goals.items():
        ours = partial(read_crops, stored, shown, 0, (0, indices))
        yield pairs.compare(f"worker's part, 3 views at 224, from {source}", ours, peer, goal=goal, rounds=rounds)
    yield pairs.compare("whole pipeline, 3 views at 224", _pass(images, shown), peer, goal=3.5, rounds=rounds)


def _in_memory(rounds: int) -> Iterator[Figure]:
    """CIFAR's views: of 32 pixels, without blur."""
    shown = tuple(View(size=SIDE, blur_p=0.0, crop_scale=scale) for scale in (None, (0.2, 1.0), (0.2, 1.0)))
    photos_NHWC = small_photos(SMALL, SIDE)
    ours, moco, kornia = _pass(Stack(photos_NHWC), shown), Moco(shown), Kornia(shown)
    batches = torch.from_numpy(photos_NHWC).permute(0, 3, 1, 2).contiguous().split(256)
    name = f"whole pipeline, 3 views at {SIDE}, in memory"
    yield pairs.compare(name, ours, (PEER, lambda: moco.from_stack(photos_NHWC)), goal=7, rounds=rounds)
    yield pairs.compare(name, ours, ("kornia 0.9", lambda: [kornia(batch) for batch in batches]), goal=3, rounds=rounds)


def _pass(images: Images, shown: tuple[View, ...]) -> pairs.Run:
    """Return what makes the views of all images once, in batches of 256 or less."""
    loader = ViewLoader(images, shown, mean=MEAN, std=STD, seed=0, device="cpu")
    plan = np.array_split(np.arange(len(images)), -(-len(images) // 256))
    return lambda: [None for _ in loader.batches(0, plan)]


def _train(root: Path) -> Images:
    return data.module("folder").load(root).splits["train"].images


def _packed(root: Path, form: Literal["jpeg", "raw"]) -> Images:
    to = root.with_name(form)
    packing.pack(packing.Order(name="folder", root=root, to=to, how=Shrinking(form=form)), lambda _done, _all: None)
    return _train(to)


if __name__ == "__main__":
    pairs.main(figures)
