"""Which training scenes each step takes: an endless shuffled stream, whose wide and high scenes go in batches apart.

Source: facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833, detectron2/data: `TrainingSampler` of
samplers/distributed_sampler.py, `AspectRatioGroupedDataset` of common.py, `filter_images_with_only_crowd_annotations`
of build.py. Batches of like shapes need less padding, which batch norm would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr import distributed
from leoclr.data.contract import DataError, Images, Split, Stack
from leoclr.data.decoding import FORMATS
from leoclr.data.files import Files

Indices = NDArray[np.int64]


def with_objects(split: Split) -> Indices:
    """Return the scenes that have an object that is no crowd; detectron2 trains on no others."""
    return np.array([i for i, scene in enumerate(split.scenes) if len(scene.labels) > scene.crowd.sum()], np.int64)


def wide(images: Images, chosen: Indices) -> NDArray[np.bool_]:
    """Return which of the `chosen` images are wider than high; of files, only the heads are read.

    Raises: DataError naming the file that is no image.
    """
    if isinstance(images, Stack):
        return np.full(len(chosen), images.images_NHWC.shape[2] > images.images_NHWC.shape[1])
    if isinstance(images, Files):
        sizes = [_size(images.paths[index]) for index in chosen.tolist()]
    else:
        sizes = [images.read(index).shape[1::-1] for index in chosen.tolist()]
    return np.array([width > height for width, height in sizes], bool)


def plan(chosen: Indices, is_wide: NDArray[np.bool_], *, batch: int, steps: int, seed: int) -> list[Indices]:
    """Return this worker's share of the scenes of each of `steps` batches, `batch` over all workers.

    The stream is one permutation of `chosen` after the other, each from (seed, its number); rank r of `world` takes
    scenes r, r + world ... of it and fills a wide and a high batch, and a batch is taken when it is full.
    """
    world, share = distributed.world_size(), batch // distributed.world_size()
    buckets: tuple[list[int], list[int]] = ([], [])
    batches: list[Indices] = []
    stream = _positions(len(chosen), seed=seed, rank=distributed.rank(), world=world)
    while len(batches) < steps:
        position = next(stream)
        bucket = buckets[int(is_wide[position])]
        bucket.append(position)
        if len(bucket) == share:
            batches.append(chosen[bucket])
            bucket.clear()
    return batches


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file. Raises: DataError."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image: {error}", hint="replace or remove the file") from error


def _positions(size: int, *, seed: int, rank: int, world: int) -> Iterator[int]:
    start, turn = rank, 0
    while True:
        order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, turn)))).permutation(size)
        yield from order[start::world].tolist()
        start, turn = (start - size) % world, turn + 1
