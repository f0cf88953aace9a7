"""What the GPU benchmark measures: each part yields its rows, and knows nothing of the others.

N images, C channels, H x W pixels.
"""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_peers import Plain
from benchmarks.gpu_timing import TRAFFIC_MB, Clock, Row, forget_peak, peak_gb, rate
from benchmarks.step_peers import Lightly, Ours, Size, noise
from leoclr import backbones
from leoclr.augment.groups import draw_groups
from leoclr.augment.loader import ViewLoader
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View
from leoclr.compiling import Compile
from leoclr.data.contract import Images, Stack
from leoclr.data.files import Files
from leoclr.evaluate.folded import Folded
from leoclr.methods import leoclr

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
GROUP = 5  # steps that are timed together where a loader makes their views: it is ahead by some
WAYS = {False: "eager", True: "compiled"}
TITLES = {"leoclr": "LeOCLR", "moco_v2": "MoCo-v2", "simclr": "SimCLR"}


@dataclass(frozen=True, slots=True)
class Setup:
    """How large everything is, and what was measured of the device."""

    clock: Clock
    large: Size  # on images that lie in files
    small: Size  # on images that lie on the device
    compile: Compile
    bandwidth: float  # bytes a second
    files: int  # JPEGs that are made
    loaders: int  # processes that read them
    loaded_groups: int  # of GROUP steps, whose views come from files

    @property
    def ways(self) -> tuple[bool, ...]:
        """Compiled or not: what is tried, the one that counts last."""
        return (False,) if self.compile == "off" else (False, True)

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.clock.device

    def beside(self, row: Row, what: str) -> Iterator[Row]:
        """Yield a rate, the share (percent) of what the memory's bandwidth allows where that was counted, and memory.

        The memory is the most that tensors held since `forget_peak`.
        """
        yield row
        if self.large.backbone == "resnet50" and self.large.side == 224 and what in TRAFFIC_MB:
            ceiling = self.bandwidth / (TRAFFIC_MB[what] * 1e6)
            share = 100.0 * row.value / ceiling
            yield Row(f"{row.name}: share of the bandwidth ceiling", share, "%", note=f"ceiling {ceiling:.0f} img/s")
        if self.device.type == "cuda":
            yield Row(f"{row.name}: peak memory", peak_gb(self.device), "GB")


def synthetic(setup: Setup, method: str, *, compile_as: Compile, goal: float = 0.0) -> Iterator[Row]:
    """Yield rate, share of the ceiling, memory, and the time to compile, of bf16 steps on views that are there."""
    forget_peak(setup.device)
    ours = Ours(method, setup.large, setup.device, precision="bf16", compile_as=compile_as)
    shown = noise(setup.large, len(ours.views), setup.device)
    first = setup.clock.first(lambda: ours.take(shown))
    name = f"{TITLES[method]} {setup.large}, bf16, {WAYS[ours.stepper.compiled]}"
    seconds = setup.clock.seconds(lambda: ours.take(shown))
    row = rate(name, setup.large.batch, seconds, goal=goal, note=f"first step {first:.0f} s")
    yield from setup.beside(row, method)


def peer(setup: Setup, kind: type[Plain] | type[Lightly], name: str) -> Iterator[Row]:
    """Yield the rate and the memory of a peer's fp32 loop; nothing where it is not installed."""
    forget_peak(setup.device)
    try:
        theirs = kind(setup.large, setup.device)
    except ImportError:
        return
    shown = noise(setup.large, 3, setup.device)
    seconds = setup.clock.seconds(lambda: theirs.take(shown))
    yield from setup.beside(rate(f"{name} {setup.large}, fp32, NCHW", setup.large.batch, seconds), name)


def augmentation(setup: Setup, step_s: float) -> Iterator[Row]:
    """Yield how long flip, colors, blur and normalization of a LeOCLR batch take, as a share of step and them."""
    views = leoclr.views(leoclr.Config(), setup.large.side)
    group = draw_groups(views, seed=0, epoch=0, indices=np.arange(setup.large.batch))[0]
    shape = (setup.large.batch * len(views), setup.large.side, setup.large.side, 3)
    crop_GCHW = torch.randint(256, shape, dtype=torch.uint8, device=setup.device).permute(0, 3, 1, 2)
    for compiled in setup.ways:
        render = Renderer(MEAN, STD, how="on" if compiled else "off")
        seconds = setup.clock.seconds(lambda render=render: render(group, crop_GCHW, flip=True))  # type: ignore[misc]
        shares = [100.0 * each / (each + step_s) for each in seconds]
        name = f"augmentation of {setup.large.batch} x {len(views)} views, {WAYS[compiled]}: share of the step"
        note = f"{1_000 * statistics.median(seconds):.2f} ms"
        goal = 3.0 if compiled == setup.ways[-1] else 0.0
        yield Row(name, statistics.median(shares), "%", min(shares), max(shares), goal, at_most=True, note=note)


def files(setup: Setup, folder: Path, alone_s: float) -> Iterator[Row]:
    """Yield the rate of LeOCLR from JPEGs, and how much of its time the device waits for them.

    The wait is what a step takes longer than `alone_s`: a step on views that are there, and their augmentation.
    """
    ours = Ours("leoclr", setup.large, setup.device, precision="bf16", compile_as=setup.compile)
    paths = tuple(itertools.islice(itertools.cycle(_jpegs(folder, setup.files)), setup.large.batch * 4))
    batches = _endless(_loader(Files(paths), ours.views, setup), len(paths), setup.large.batch)

    def several() -> None:
        for _ in range(GROUP):
            ours.take(next(batches))

    for _ in range(2):  # compiles, and until the processes are at full speed
        several()
    setup.clock.wait()
    steps = [setup.clock.first(several) / GROUP for _ in range(setup.loaded_groups)]
    rates = [setup.large.batch / each for each in steps]
    name = f"LeOCLR {setup.large}, bf16, JPEGs by {setup.loaders} processes"
    yield Row(name, statistics.median(rates), "img/s", min(rates), max(rates))
    waits = [100.0 * max(0.0, each - alone_s) / each for each in steps]
    yield Row(f"{name}: data wait", statistics.median(waits), "%", min(waits), max(waits), 5.0, at_most=True)


def resident(setup: Setup) -> Iterator[Row]:
    """Yield the rate of LeOCLR on small images that lie on the device, their views made there."""
    forget_peak(setup.device)
    ours = Ours("leoclr", setup.small, setup.device, precision="bf16", compile_as=setup.compile)
    count, side = setup.small.batch * 8, setup.small.side
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    loader = _loader(Stack(images), ours.views, setup)
    batches = _endless(loader, count, setup.small.batch)
    first = setup.clock.first(lambda: ours.take(next(batches)))
    seconds = setup.clock.seconds(lambda: ours.take(next(batches)))
    name = f"LeOCLR {setup.small}, bf16, images on the device"
    row = rate(name, setup.small.batch, seconds, goal=20_000, note=f"first step {first:.0f} s")
    yield from setup.beside(row, "resident")


def features(setup: Setup, *, compiled: bool) -> Iterator[Row]:
    """Yield the rate of a frozen backbone with folded batch norm in bf16."""
    forget_peak(setup.device)
    trunk = backbones.build(setup.large.backbone, width=setup.large.width, stem=setup.large.stem).to(setup.device)
    folded = Folded(trunk, "bf16")
    if compiled:
        folded.compile(dynamic=False)
    (images_NCHW,) = noise(setup.large, 1, setup.device)

    @torch.no_grad()
    def act() -> Tensor:
        made: Tensor = folded(images_NCHW)
        return made

    first = setup.clock.first(act)
    name = f"frozen features {setup.large}, bf16, {WAYS[compiled]}"
    goal = 0.0 if compiled else 8_000  # `leoclr.evaluate` runs it so
    row = rate(name, setup.large.batch, setup.clock.seconds(act), goal=goal, note=f"first batch {first:.0f} s")
    yield from setup.beside(row, "features")


def _loader(images: Images, views: Sequence[View], setup: Setup) -> ViewLoader:
    return ViewLoader(
        images,
        views,
        mean=MEAN,
        std=STD,
        seed=0,
        device=setup.device,
        workers=0 if isinstance(images, Stack) else setup.loaders,
        compile="off" if setup.compile == "off" else "on",
    )


def _endless(loader: ViewLoader, count: int, batch: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches for ever; an epoch is long, so that its start costs nothing."""
    order = [np.arange(start, start + batch) % count for start in range(0, 64 * count, batch)]
    for epoch in itertools.count():
        yield from loader.batches(epoch, order)


def _jpegs(folder: Path, count: int) -> list[Path]:
    """Write photo-like JPEGs of 500 x 375 pixels, about 100 KB each, and return them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        grain = rng.normal(0, 18, (375, 500, 3))
        pixels = (np.asarray(coarse, dtype=np.float32) + grain).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
        paths.append(folder / f"{index}.jpg")
        paths[-1].write_bytes(buffer.getvalue())
    return paths
