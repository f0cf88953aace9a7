import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr.data import digest_cache, folder
from leoclr.data.contract import UNLABELED, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 0, 0)).save(path)
    return root


def shown(root: Path) -> dict[str, list[tuple[str, int]]]:
    data = folder.load(root)
    return {
        name: [
            (path.relative_to(root.resolve()).as_posix(), label)
            for path, label in zip(split.images.paths, split.labels.tolist(), strict=True)
        ]
        for name, split in data.splits.items()
    }


def test_own_splits_are_kept(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train/b/2.png",
        "train/a/1.JPG",
        "train/a/deep/3.png",
        "test/a/4.png",
        "test/b/5.png",
        "train/.x/6.png",
    )
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    assert shown(tmp_path) == {
        "train": [("train/a/1.JPG", 0), ("train/a/deep/3.png", 0), ("train/b/2.png", 1)],
        "test": [("test/a/4.png", 0), ("test/b/5.png", 1)],
    }
    assert folder.load(tmp_path).classes == ("a", "b")
    assert folder.load(tmp_path).splits["train"].images.read(0).shape == (3, 4, 3)


@pytest.mark.parametrize("names", [("a/1.png", "a/2.png"), ("train/a/1.png", "test/a/2.png")])
def test_images_without_a_class_are_a_split_of_their_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, *names)
    first = folder.digest(tmp_path)
    write(tmp_path, "unlabeled/3.png", "unlabeled/deep/4.png")
    assert shown(tmp_path)["unlabeled"] == [("unlabeled/3.png", UNLABELED), ("unlabeled/deep/4.png", UNLABELED)]
    assert folder.load(tmp_path).classes == ("a",)
    assert folder.digest(tmp_path) != first
    for path in (tmp_path / "unlabeled").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="unlabeled: there are no images"):
        folder.load(tmp_path)


def test_val_is_the_test_set_unless_there_is_one(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "val/a/2.png")
    assert shown(tmp_path)["test"] == [("val/a/2.png", 0)]
    write(tmp_path, "test/a/3.png")
    assert shown(tmp_path)["val"] == [("val/a/2.png", 0)]
    assert shown(tmp_path)["test"] == [("test/a/3.png", 0)]


def test_plain_class_folders_are_divided_class_by_class(tmp_path: Path) -> None:
    write(tmp_path, *(f"a/{i}.png" for i in range(10)), *(f"b/{i}.png" for i in range(20)), "c/1.png", "c/2.png")
    parts = shown(tmp_path)
    assert {name: np.bincount([label for _, label in part]).tolist() for name, part in parts.items()} == {
        "train": [8, 16, 1],
        "test": [2, 4, 1],
    }
    assert not set(parts["train"]) & set(parts["test"])
    assert shown(tmp_path) == parts


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "there are no class folders"),
        (["train/a/1.png"], "neither test nor val"),
        (["train/a/1.png", "test/b/1.png"], "differ in a, b"),
        (["a/1.png", "b/1.png", "b/2.png"], "class a has one image"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, names: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        folder.load(write(tmp_path, *names))


def test_a_missing_folder_and_an_empty_class_are_named(tmp_path: Path) -> None:
    for ask in (folder.load, folder.digest):
        with pytest.raises(DataError, match="nowhere: no such folder"):
            ask(tmp_path / "nowhere")
    write(tmp_path, "a/1.png", "a/2.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b: there are no images"):
        folder.load(tmp_path)


@pytest.mark.parametrize("target", ["../outside/1.png", "../outside", "a", "b/link.png"])
def test_links_that_leave_the_folder_or_lead_to_folders_are_refused(tmp_path: Path, target: str) -> None:
    root = write(tmp_path / "root", "a/1.png", "a/2.png")
    write(tmp_path / "outside", "1.png")
    (root / "b").mkdir()
    (root / "b" / "link.png").symlink_to(root / target)
    for ask in (folder.load, folder.digest):
        with pytest.raises(DataError, match=r"b/link\.png: links to"):
            ask(root)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    root = write(tmp_path / "root", "a/1.png", "a/2.png")
    (tmp_path / "link").symlink_to(root)
    assert folder.digest(tmp_path / "link") == folder.digest(root)
    assert len(folder.load(tmp_path / "link").splits["train"]) == 1


def test_the_digest_moves_with_names_and_content_and_not_with_the_place(tmp_path: Path) -> None:
    names = ("a/1.png", "a/2.png")
    first = folder.digest(write(tmp_path / "one", *names))
    assert folder.digest(write(tmp_path / "two", *names)) == first
    Image.new("RGB", (4, 3), (9, 9, 9)).save(tmp_path / "two" / "a" / "2.png")
    assert folder.digest(tmp_path / "two") != first
    (tmp_path / "one" / "a" / "2.png").rename(tmp_path / "one" / "a" / "3.png")
    assert folder.digest(tmp_path / "one") != first


def test_settled_files_are_read_once_and_nothing_is_written_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1.png", "a/2.png")
    for path in (tmp_path / "a").iterdir():
        os.utime(path, ns=(10**18, 10**18))
    before = sorted(tmp_path.rglob("*"))
    read: list[str] = []
    hash_file = digest_cache._sha256
    monkeypatch.setattr(digest_cache, "_sha256", lambda file: read.append(file.name) or hash_file(file))
    first = folder.digest(tmp_path)
    assert (folder.digest(tmp_path), read) == (first, ["1.png", "2.png"])
    os.utime(tmp_path / "a" / "2.png", ns=(10**18, 10**18 + 1))
    assert (folder.digest(tmp_path), read) == (first, ["1.png", "2.png", "2.png"])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_just_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a/1.png", "a/2.png")
    first = folder.digest(tmp_path)
    stat = (tmp_path / "a" / "1.png").stat()
    content = bytearray((tmp_path / "a" / "1.png").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a" / "1.png").write_bytes(content)  # same size, and by its time of change unchanged
    os.utime(tmp_path / "a" / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert folder.digest(tmp_path) != first


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": [1, 2]}'])
def test_a_damaged_cache_is_started_anew(tmp_path: Path, cache: Path, content: str) -> None:
    write(tmp_path, "a/1.png", "a/2.png")
    os.utime(tmp_path / "a" / "1.png", ns=(10**18, 10**18))
    first = folder.digest(tmp_path)
    (stored,) = cache.rglob("*.json")
    stored.write_text(content)
    assert folder.digest(tmp_path) == first


def test_a_cache_that_cannot_be_written_warns(tmp_path: Path, cache: Path) -> None:
    write(tmp_path, "a/1.png", "a/2.png")
    os.utime(tmp_path / "a" / "1.png", ns=(10**18, 10**18))
    (cache / "leoclr-ops").write_text("a file where the cache's folder should be")
    with pytest.warns(UserWarning, match="digests of images are not remembered"):
        folder.digest(tmp_path)
