"""Which scenes a step takes: each as often, like shapes together, workers apart, the same from any step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr import distributed
from leoclr.data.contract import Boxes, DataError, Split, Stack
from leoclr.data.files import Files
from leoclr.evaluate import scene_batches

CHOSEN = np.arange(10, 33)  # 23 scenes
WIDE = CHOSEN % 3 > 0


def worker(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world)


def test_batches_are_of_one_shape_and_use_each_scene_once_a_pass() -> None:
    batches = scene_batches.plan(CHOSEN, WIDE, batch=4, steps=200, seed=0)
    assert [len(batch) for batch in batches] == [4] * 200
    assert all(len(set(WIDE[batch - 10].tolist())) == 1 for batch in batches)
    counts = Counter(np.concatenate(batches).tolist())
    assert set(counts) == set(CHOSEN.tolist())
    assert max(counts.values()) - min(counts.values()) <= 2  # scenes wait in two batches that are not full


def test_a_longer_plan_starts_with_the_shorter_one_and_seeds_differ() -> None:
    long, short = (scene_batches.plan(CHOSEN, WIDE, batch=4, steps=steps, seed=1) for steps in (50, 20))
    other = scene_batches.plan(CHOSEN, WIDE, batch=4, steps=20, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(long, short, strict=False))
    assert not all(np.array_equal(a, b) for a, b in zip(other, short, strict=True))


def test_workers_share_the_stream_as_detectron2s_sampler_does(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = np.ones(len(CHOSEN), bool)  # one shape: a worker's batches are its stream, cut
    whole = np.concatenate(scene_batches.plan(CHOSEN, alike, batch=1, steps=120, seed=3))
    for rank in range(3):
        worker(monkeypatch, rank, 3)
        mine = np.concatenate(scene_batches.plan(CHOSEN, alike, batch=6, steps=20, seed=3))
        assert mine.tolist() == whole[rank::3].tolist()


def test_more_workers_than_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, 2, 3)
    two, high = CHOSEN[:2], np.zeros(2, bool)
    mine = scene_batches.plan(two, high, batch=3, steps=4, seed=0)
    worker(monkeypatch, 0, 1)
    whole = np.concatenate(scene_batches.plan(two, high, batch=1, steps=12, seed=0))
    assert np.concatenate(mine).tolist() == whole[2::3].tolist()


def test_scenes_of_nothing_but_crowds_are_not_trained_on() -> None:
    def scene(crowd: list[bool], count: int) -> Boxes:
        return Boxes(
            np.ones((count, 4), np.float32), np.ones(count, np.int64), np.zeros(count, bool), np.array(crowd, bool)
        )

    scenes = [scene([True, False], 2), scene([], 2), scene([True, True], 2), scene([], 0), scene([], 1)]
    split = Split(Stack(np.zeros((5, 4, 4, 3), np.uint8)), np.empty(0, np.int64), scenes)
    assert scene_batches.with_objects(split).tolist() == [0, 1, 4]


def test_shapes_come_from_the_heads_of_files(tmp_path: Path) -> None:
    sizes = [(30, 20), (20, 30), (25, 25)]
    paths = tuple(tmp_path / f"{index}.png" for index in range(3))
    for path, size in zip(paths, sizes, strict=True):
        Image.new("L", size).save(path)
    assert scene_batches.wide(Files(paths), np.array([0, 1, 2])).tolist() == [True, False, False]
    assert scene_batches.wide(Files(paths), np.array([1, 0])).tolist() == [False, True]
    paths[1].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        scene_batches.wide(Files(paths), np.array([0, 1]))
    stack = Stack(np.zeros((3, 20, 30, 3), np.uint8))
    assert scene_batches.wide(stack, np.array([0, 2])).tolist() == [True, True]
