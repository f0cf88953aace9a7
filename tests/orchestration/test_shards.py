"""A packed store read from a bucket over HTTP: the same bytes, the same digest, a bounded cache, clear errors."""

from __future__ import annotations

import errno
import multiprocessing
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from leoclr import data as datasets
from leoclr.data.contract import DataError
from leoclr.data.manifest import IMAGES
from leoclr.data.shrinking import Shrinking
from orchestration import packing, shards
from orchestration.blocks import Blocks
from orchestration.cluster.bucket import Bucket
from orchestration.errors import DataProblem
from tests.orchestration import packings, s3
from tests.orchestration.s3 import Way


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture
def road(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Way]:
    with s3.way(address) as found:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "ours")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.address)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield found


@pytest.fixture(params=["jpeg", "raw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small packed folder of images."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (40 + number, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    order = packings.order(tmp_path / "images", str(tmp_path / "packed"), how=Shrinking(form=request.param, side=32))
    packing.pack(order, packings.quiet)
    return tmp_path / "packed"


def images(root: Path) -> dict[str, list[NDArray[np.uint8]]]:
    splits = datasets.module("folder").load(root).splits
    return {name: [split.images.read(place) for place in range(len(split))] for name, split in splits.items()}


def assert_same(left: dict[str, list[NDArray[np.uint8]]], right: dict[str, list[NDArray[np.uint8]]]) -> None:
    assert left.keys() == right.keys()
    for name, own in left.items():
        assert len(own) == len(right[name])
        assert all(np.array_equal(one, other) for one, other in zip(own, right[name], strict=True))


@pytest.mark.parametrize("block", [700, 1 << 20])
def test_it_reads_the_same_bytes_as_from_disk(
    road: Way, store: Path, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BLOCK_BYTES", block)
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    assert shards.push(store, there, packings.quiet)
    assert not shards.push(store, there, packings.quiet)
    root = shards.root(there, tmp_path / "home")
    module = datasets.module("folder")
    assert module.digest(root) == module.digest(store)
    expected = images(store)
    assert_same(images(root), expected)
    assert not (root / IMAGES).exists()
    road.asked.clear()
    assert_same(images(root), expected)
    assert road.asked == []  # all of it was kept


def read_all(root: Path, images_of: object, queue: object) -> None:
    queue.put([images_of.read(place).sum() for place in range(len(images_of))])  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_other_processes_read_it_too(road: Way, store: Path, tmp_path: Path, how: str) -> None:
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    shards.push(store, there, packings.quiet)
    root = shards.root(there, tmp_path / "home")
    split = datasets.module("folder").load(root).splits["train"]
    split.images.read(0)  # it has a client before it forks
    context = multiprocessing.get_context(how)
    queue = context.Queue()
    processes = [context.Process(target=read_all, args=(root, split.images, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert found[0] == found[1] == [image.sum() for image in images(store)["train"]]


def test_a_cache_that_is_too_small_costs_requests_and_no_bytes(
    road: Way, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SMALL_BYTES", 512)
    monkeypatch.setenv(shards.CACHE, "4096")
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    shards.push(store, there, packings.quiet)
    root = shards.root(there, tmp_path / "home")
    for _ in range(2):
        assert_same(images(root), images(store))
    kept = tmp_path / "cache" / "leoclr-ops" / "blocks"
    assert 0 < sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) <= 4096


def test_a_full_disk_costs_requests_and_one_warning(
    road: Way, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    shards.push(store, there, packings.quiet)
    root = shards.root(there, tmp_path / "home")
    names = iter(range(10**6))

    def full(self: Blocks, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"/cache/tmp{next(names)}")

    monkeypatch.setattr(Blocks, "write", full)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            assert_same(images(root), images(store))
    assert [str(each.message) for each in told] == [
        "images from a bucket are not kept on this machine's disk: No space left on device"
    ]
    assert next(names) > 2


def test_another_content_at_the_same_address_is_seen(road: Way, store: Path, tmp_path: Path) -> None:
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    shards.push(store, there, packings.quiet)
    images(shards.root(there, tmp_path / "home"))
    other = packings.order(tmp_path / "images", str(tmp_path / "smaller"), how=Shrinking(form="raw", side=16))
    packing.pack(other, packings.quiet)
    shards.push(tmp_path / "smaller", there, packings.quiet)
    root = shards.root(there, tmp_path / "home")
    assert_same(images(root), images(tmp_path / "smaller"))


def test_what_is_wrong_is_one_clear_error(road: Way, store: Path, tmp_path: Path) -> None:
    there = f"s3://{s3.NAME}/{tmp_path.name}"
    with pytest.raises(DataError, match="there is no packed store"):
        shards.root(there, tmp_path / "home")
    shards.push(store, there, packings.quiet)
    objects = s3.objects(road.address, f"{tmp_path.name}/")
    content = objects.get(IMAGES)
    assert content is not None
    root = shards.root(there, tmp_path / "home")
    split = datasets.module("folder").load(root).splits["train"]
    road.refuse = lambda method, path: 403
    with pytest.raises(DataError, match=r"GetObject is refused: 403") as caught:
        split.images.read(0)
    assert "is the bucket up" in caught.value.hint
    road.refuse = None
    objects.put(IMAGES, content[0][:-1])
    with pytest.raises(DataError, match=r"images\.bin is not whole"):
        shards.root(there, tmp_path / "home")
    (store / IMAGES).write_bytes(b"x" + content[0][1:])
    with pytest.raises(DataProblem, match="has not its sha256"):
        shards.push(store, there, packings.quiet)


def test_an_address_is_an_address() -> None:
    assert Bucket.of("s3://runs/a/b/").prefix == "a/b/"
    for wrong in ("http://runs/a", "s3:///a", "s3://user@runs/a"):
        with pytest.raises(Exception, match="not an address"):
            Bucket.of(wrong)
