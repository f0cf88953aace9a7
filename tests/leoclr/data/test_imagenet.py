from pathlib import Path

import pytest

from leoclr.data import digest_cache, imagenet
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def test_it_reads_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision import datasets

    trees.imagenet(tmp_path)
    (tmp_path / "train" / ".DS_Store").write_text("no class")
    (tmp_path / "train" / trees.WNIDS[0] / "notes.txt").write_text("no image")
    data = imagenet.load(tmp_path)
    for split, part in (("train", "train"), ("test", "val")):
        reference = datasets.ImageFolder(str(tmp_path.resolve() / part))
        found = data.splits[split]
        assert [
            (str(path), label) for path, label in zip(found.images.paths, found.labels, strict=True)
        ] == reference.samples
        assert list(data.classes) == reference.classes == list(trees.WNIDS)


def test_splits_may_be_links_into_another_disk(tmp_path: Path) -> None:
    trees.imagenet(tmp_path / "disk")
    (tmp_path / "root").mkdir()
    for part in ("train", "val"):
        (tmp_path / "root" / part).symlink_to(tmp_path / "disk" / part)
    assert imagenet.digest(tmp_path / "root") == imagenet.digest(tmp_path / "disk")
    assert len(imagenet.load(tmp_path / "root").splits["train"]) == 12


def test_validation_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    trees.imagenet(tmp_path)
    (tmp_path / "val").rename(tmp_path / "sorted")
    trees.image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    for ask in (imagenet.digest, imagenet.load):
        with pytest.raises(DataError, match="val: there are no class folders") as caught:
            ask(tmp_path)
        assert "class folders" in caught.value.hint


def test_splits_that_differ_in_classes_and_empty_classes_are_refused(tmp_path: Path) -> None:
    trees.imagenet(tmp_path)
    (tmp_path / "val" / "n99999999").mkdir()
    with pytest.raises(DataError, match="differ in 1 classes, such as n99999999"):
        imagenet.load(tmp_path)
    (tmp_path / "train" / "n99999999").mkdir()
    with pytest.raises(DataError, match="n99999999: there are no images"):
        imagenet.load(tmp_path)


def test_the_digest_reads_no_bytes_and_lists_only_folders_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "_SETTLED_NS", -(10**12))
    monkeypatch.setattr(digest_cache, "_sha256", lambda path: pytest.fail(f"{path} is read"))
    listed: list[str] = []
    list_folder = digest_cache._listed
    monkeypatch.setattr(digest_cache, "_listed", lambda folder: listed.append(folder.name) or list_folder(folder))
    root = tmp_path / "root"
    trees.imagenet(root)
    first = imagenet.digest(root)
    assert sorted(listed) == sorted(trees.WNIDS * 2)
    listed.clear()
    assert (imagenet.digest(root), listed) == (first, [])
    trees.image(root / "val" / trees.WNIDS[1] / "one more.JPEG")
    second = imagenet.digest(root)
    assert (second != first, listed) == (True, [trees.WNIDS[1]])
    path = next((root / "train" / trees.WNIDS[2]).iterdir())
    path.write_bytes(path.read_bytes() + b"0")  # in place: the folder's time of change stays
    assert imagenet.digest(root) == second
    digest_cache.forget(root)
    assert imagenet.digest(root) not in (first, second)
