"""A training step of LeOCLR beside lightly's, and beside a step of MoCo-v2: `python -m benchmarks.step`.

On one core, on views that are there already: the same three views, backbone, head, queue and optimizer. lightly's
example knows no autocast, so its side is fp32 in all figures. Figures in bf16 want a processor that multiplies in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import pairs
from benchmarks.pairs import Figure
from benchmarks.step_peers import Lightly, Ours, Precision, Size, noise

CPU = torch.device("cpu")
SMALL = Size("resnet18", "imagenet", side=32, batch=128)
LARGE = Size("resnet50", "imagenet", side=64, batch=16)
STEPS = 2  # of one timing
PEER = "lightly 1.6, examples/pytorch/moco.py with a third view"
BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # what /proc/cpuinfo calls instructions on bf16


def figures(rounds: int) -> Iterator[Figure]:
    """Yield the figures, each on one core."""
    torch.manual_seed(0)
    with pairs.one_core():
        for size, goal in ((SMALL, 1.15), (LARGE, 1.15)):
            yield _beside_lightly(size, "fp32", goal=goal, rounds=rounds)
        yield _beside_lightly(SMALL, "bf16", goal=1.8, rounds=rounds)
        for size in (SMALL, LARGE):
            yield _beside_moco(size, rounds=rounds)


def several(take: Callable[..., None], size: Size, views: int, steps: int = STEPS) -> Callable[[], None]:
    """Return what takes some steps on one batch of noise."""
    shown = noise(size, views, CPU)

    def act() -> None:
        for _ in range(steps):
            take(shown)

    return act


def _beside_lightly(size: Size, precision: Precision, *, goal: float, rounds: int) -> Figure:
    name = f"LeOCLR step, {precision}, {size}"
    takes = Ours("leoclr", size, CPU, precision=precision).take, Lightly(size, CPU).take
    if precision == "bf16" and not _has_bf16():  # emulated, at up to 10 times the time: one step of each says it
        own_s, their_s = (pairs.seconds(several(take, size, 3, steps=1)) for take in takes)
        note = "this processor has no instructions for bf16"
        return pairs.of_ratios(name, PEER, [their_s / own_s], goal=goal, note=note)
    own, theirs = (several(take, size, 3) for take in takes)
    return pairs.compare(name, own, (PEER, theirs), goal=goal, rounds=rounds)


def _beside_moco(size: Size, *, rounds: int) -> Figure:
    leoclr, moco = (several(Ours(name, size, CPU).take, size, views) for name, views in (("leoclr", 3), ("moco_v2", 2)))
    leoclr(), moco()
    ratios = [pairs.seconds(leoclr) / pairs.seconds(moco) for _ in range(rounds)]
    name = f"LeOCLR step over MoCo-v2 step, fp32, {size}"
    return pairs.of_ratios(name, "MoCo-v2 here; 1.25 by passes", ratios, goal=1.27, at_most=True)


def _has_bf16() -> bool:
    about = Path("/proc/cpuinfo")
    return about.exists() and any(name in about.read_text().split() for name in BF16)


if __name__ == "__main__":
    pairs.main(figures)
