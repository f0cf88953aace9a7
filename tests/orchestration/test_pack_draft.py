"""What was interrupted, by whatever, goes on at its last whole block and becomes the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from leoclr.data import module
from leoclr.data.decoding import decode
from leoclr.data.shrinking import Shrinking, Small, shrink_files
from orchestration import packing
from orchestration.errors import DataProblem
from orchestration.pack_draft import Draft
from orchestration.packing import pack
from tests.leoclr.data import trees
from tests.orchestration.packings import HOW, contents, damage, order, originals, quiet


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(packing, "BLOCK", 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder data set of 31 images."""
    trees.folder(tmp_path / "originals")
    return tmp_path / "originals"


PACK = """
import multiprocessing, os, sys
from pathlib import Path
from leoclr.data.shrinking import Shrinking
from orchestration import packing

def show(done, total):
    if done >= int(sys.argv[3]):
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        os.kill(os.getpid(), 9)

packing.BLOCK, packing._PART = 4, 2
how = Shrinking(form="jpeg", side=8)
packing.pack(packing.Order(name="folder", root=Path(sys.argv[1]), to=Path(sys.argv[2]), how=how, workers=2), show)
"""


def killed(root: Path, at: int) -> list[int]:
    """Pack in another process, which kills itself after `at` images; return the ids of its processes."""
    ask = [sys.executable, "-c", PACK, str(root), str(root.parent / "packed"), str(at)]
    done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_packing_that_is_killed_goes_on_and_its_processes_end(root: Path) -> None:
    children = killed(root, at=14)
    assert len(children) == 2
    assert not (root.parent / "packed").exists()
    counts: list[int] = []
    pack(order(root), lambda done, _: counts.append(done))
    assert counts[0] == 12  # three blocks of four were whole
    pack(order(root, "undisturbed"), quiet)
    assert contents(root.parent / "packed") == contents(root.parent / "undisturbed")
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in children):
        assert time.monotonic() < deadline, "processes outlive the one that started them"
        time.sleep(0.05)


def stopped(root: Path, at: int, **more: object) -> Path:
    """Return the draft of a packing that was interrupted after `at` images."""

    def show(done: int, total: int) -> None:
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(order(root, **more), show)
    return root.parent / ".packed.draft"


def continued(root: Path, **more: object) -> int:
    """Return where a packing continued; the store is what it would have been."""
    counts: list[int] = []
    pack(order(root, **more), lambda done, _: counts.append(done))
    shutil.rmtree(root.parent / "whole", ignore_errors=True)
    pack(order(root, "whole", **more), quiet)
    assert contents(root.parent / "packed") == contents(root.parent / "whole")
    return counts[0]


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PART", 2)


@pytest.mark.usefixtures("fine")
def test_a_torn_journal_loses_its_last_block(root: Path) -> None:
    journal = stopped(root, at=22) / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 5
    journal.write_text(journal.read_text()[:-20])
    assert continued(root) == 16


@pytest.mark.usefixtures("fine")
def test_a_damaged_image_file_loses_the_blocks_from_there_on(root: Path) -> None:
    images = stopped(root, at=22) / "store" / "images.bin"
    content = bytearray(images.read_bytes())
    content[len(content) // 2] ^= 1
    images.write_bytes(content)
    assert 0 < continued(root) < 20


@pytest.mark.usefixtures("fine")
def test_an_image_file_that_is_too_short_or_too_long_is_put_right(root: Path) -> None:
    images = stopped(root, at=22) / "store" / "images.bin"
    os.truncate(images, images.stat().st_size // 2)
    assert 4 <= continued(root) < 16
    shutil.rmtree(root.parent / "packed")
    with (stopped(root, at=22) / "store" / "images.bin").open("ab") as stream:
        stream.write(b"more" * 1000)
    assert continued(root) == 20


@pytest.mark.usefixtures("fine")
def test_an_original_that_changed_meanwhile_is_packed_anew(root: Path) -> None:
    stopped(root, at=22)
    path = originals(module("folder").load(root), "train")[5]
    trees.image(path)
    assert continued(root) == 4
    small = module("folder").load(root.parent / "packed").splits["train"].images.read(5)
    assert abs(small.astype(int) - shrunk(path)).max() == 0


def shrunk(path: Path) -> np.ndarray:
    (small,) = shrink_files([path], HOW)
    assert isinstance(small, Small)
    return decode(small.content, "x").astype(int)


@pytest.mark.usefixtures("fine")
def test_another_form_begins_anew(root: Path) -> None:
    stopped(root, at=22)
    assert continued(root, how=Shrinking(form="raw", side=8)) == 0


@pytest.mark.usefixtures("fine")
def test_nonsense_in_a_journal_begins_anew(root: Path) -> None:
    journal = stopped(root, at=22) / "journal.jsonl"
    binding = journal.read_text().splitlines()[0]
    for line in ("", "{}", binding + "\n[]", binding + '\n{"key": 1}', '"other"', "\x00"):
        journal.write_text(line)
        assert continued(root) == 0
        shutil.rmtree(root.parent / "packed")
        journal.parent.mkdir()


@pytest.mark.usefixtures("fine")
def test_what_was_left_out_before_an_interruption_counts_after_it(root: Path) -> None:
    damage(root, 1, 6)
    stopped(root, at=22, limit=2)
    with pytest.raises(DataProblem, match="not a readable image") as caught:
        pack(order(root, limit=1), quiet)
    assert "--skip 2" in caught.value.hint
    assert continued(root, limit=2) == 20


@pytest.mark.usefixtures("fine")
def test_a_full_disk_is_told_and_what_is_written_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Draft.add
    written = iter(range(100))

    def full(*args: object) -> None:
        if next(written) == 21:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Draft, "add", full)
        with pytest.raises(DataProblem, match="No space left on device") as caught:
            pack(order(root), quiet)
    assert "the same command continues it" in caught.value.hint
    assert continued(root) == 20
