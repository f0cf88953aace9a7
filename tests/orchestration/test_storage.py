"""Files that are whole, stay inside their folder, and are what their sha256 says."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from orchestration.errors import NotFound, StoreError
from orchestration.storage import (
    Busy,
    Digests,
    Home,
    inside,
    locked,
    problem_of,
    read_manifest,
    safe_name,
    sha256,
    write_atomic,
)


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEOCLR_OPS_HOME", "")
    assert Home.default().path == tmp_path / ".leoclr-ops"
    monkeypatch.setenv("LEOCLR_OPS_HOME", "runs")
    assert Home.default().path == tmp_path / "runs"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a\\b", "a\0b", "gr\u00fcn", "a b"])
def test_names_that_could_leave_their_folder_are_refused(name: str, tmp_path: Path) -> None:
    for place in (Home(tmp_path).stage, Home(tmp_path).submission, Home(tmp_path).data, safe_name):
        with pytest.raises(StoreError, match="cannot be the name of a file"):
            place(name)


@pytest.mark.parametrize("file", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a\0"])
def test_paths_that_leave_the_folder_are_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a path inside a folder"):
        inside(tmp_path, file)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leads out of the folder"):
        inside(tmp_path / "in", "link/secret")
    assert inside(tmp_path / "in", "deep/file") == tmp_path / "in" / "deep" / "file"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    write_atomic(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "half \udc80")  # a lone surrogate cannot be written as UTF-8
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]
    write_atomic(file, "new")
    assert file.read_text() == "new"


def test_a_lock_is_exclusive_and_dies_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=_hold_for_ever, args=(tmp_path / "lock", held))
    process.start()
    assert held.wait(60)
    with pytest.raises(Busy, match="another process holds this lock"), locked(tmp_path / "lock"):
        pass
    process.kill()
    process.join()
    with locked(tmp_path / "lock", wait_s=10):
        pass


def _hold_for_ever(path: Path, held: Event) -> None:
    with locked(path):
        held.set()
        multiprocessing.Event().wait()


def test_sha256_is_that_of_hashlib_across_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192 + b"tail"  # two blocks and a bit
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path) -> None:
    file, memory = tmp_path / "file", tmp_path / "verified.json"
    file.write_text("one")
    digests = Digests(memory)
    first = digests.of(file)
    digests.save()
    times = file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Digests(memory).of(file) == first  # same size and time: taken from memory, so it was not read again
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert Digests(memory).of(file) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": '])
def test_a_damaged_memory_is_learned_again(content: str, tmp_path: Path) -> None:
    (tmp_path / "verified.json").write_text(content)
    (tmp_path / "file").write_text("one")
    assert Digests(tmp_path / "verified.json").of(tmp_path / "file") == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"a": 1}}', '{"files": {"a": {"bytes": 1}}}'])
def test_a_torn_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match="no readable manifest"):
        read_manifest(tmp_path / "manifest.json")


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"../../etc/passwd": {"sha256": "0"}}}))
    with pytest.raises(StoreError, match="is not a path inside a folder"):
        read_manifest(tmp_path / "manifest.json")


def test_problems_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    digest = hashlib.sha256(b"one").hexdigest()
    assert problem_of(tmp_path, {"a": digest}) == ""
    assert problem_of(tmp_path, {"a": "0" * 64}) == "damaged (a)"
    assert problem_of(tmp_path, {"a": digest, "b": digest}) == "missing (b)"


def test_a_home_of_nobody_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEOCLR_OPS_HOME", "~nobody-of-that-name/x")
    with pytest.raises(NotFound, match="LEOCLR_OPS_HOME: '~nobody-of-that-name/x' names the home of nobody here"):
        Home.default()


def test_a_path_that_no_disk_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a path"):
        inside(tmp_path, "\ud800")
