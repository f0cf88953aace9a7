"""The cache of blocks: whole blocks or none, the oldest go first, several processes at once."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from orchestration.blocks import Blocks


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_block_is_read_in_parts(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path, 1 << 20)
    assert blocks.read("a-00", 0, 3) is None
    blocks.write("a-00", b"abcdef")
    assert blocks.read("a-00", 0, 6) == b"abcdef"
    assert blocks.read("a-00", 2, 4) == b"cd"


def test_a_damaged_block_is_not_there(tmp_path: Path) -> None:
    Blocks(tmp_path, 1 << 20).write("a-00", b"abcdef")
    path = tmp_path / "00" / "a-00"
    path.write_bytes(b"abcdeX" + path.read_bytes()[6:])
    assert Blocks(tmp_path, 1 << 20).read("a-00", 0, 6) is None
    assert not path.exists()


def test_what_was_not_read_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.blocks.PROCESSES", 1)
    blocks = Blocks(tmp_path, 10_000)
    for number in range(8):
        blocks.write(f"a-{number:02d}", bytes(1000))
        os.utime(tmp_path / f"{number:02d}" / f"a-{number:02d}", (1000 + number, 1000 + number))
    assert blocks.read("a-00", 0, 1) == b"\0"  # it is marked as read now
    for number in range(8, 12):
        blocks.write(f"a-{number:02d}", bytes(1000))
    left = {number for number in range(12) if blocks.read(f"a-{number:02d}", 0, 1) is not None}
    assert 0 in left
    assert {1, 2} & left == set()
    assert {10, 11} <= left


def fill(folder: str, start: int) -> None:
    blocks = Blocks(Path(folder), 200_000)
    for number in range(start, start + 200):
        blocks.write(f"a-{number:06d}", bytes([number % 256]) * 2000)
        assert blocks.read(f"a-{number:06d}", 0, 2000) in (None, bytes([number % 256]) * 2000)


def test_the_limit_holds_for_several_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(str(tmp_path), start)) for start in (0, 100, 1000)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert 0 < size_of(tmp_path) <= 200_000
    assert not list(tmp_path.rglob("tmp*"))
