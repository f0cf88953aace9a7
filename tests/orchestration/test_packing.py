"""A packed store loads as its data set, is the same bytes however it came about, and says what is in its way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from leoclr.data import DATASETS, WITH_BOXES, label_lists, module
from leoclr.data.packed import Packed
from leoclr.data.shrinking import Shrinking, Small, shrink_files
from orchestration import data_sets, packing
from orchestration.errors import DataProblem, NotFound
from orchestration.packing import Done, Order, pack
from orchestration.storage import Busy, locked
from tests.leoclr.data import trees
from tests.orchestration.packings import HOW, contents, damage, order, originals, quiet

PACKABLE = ("folder", "imagenet", "imagenet_subset", "cars", "birdsnap", "pets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(packing, "BLOCK", 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder data set of 31 images."""
    trees.folder(tmp_path / "originals")
    return tmp_path / "originals"


@pytest.mark.parametrize("form", ["jpeg", "raw"])
@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_store_loads_as_its_data_set(name: str, form: str, tmp_path: Path) -> None:
    trees.WRITERS[name](tmp_path / "in")
    ask = order(tmp_path / "in", name=name, how=Shrinking(form=form, side=8))
    pack(ask, quiet)
    before, after = module(name).load(ask.root), module(name).load(ask.to)
    for field in ("name", "classes", "mean", "std", "metric", "valid_size", "valid_per_class"):
        assert getattr(before, field) == getattr(after, field)
    assert list(before.splits) == list(after.splits)
    for split, part in after.splits.items():
        paths = originals(before, split)
        assert isinstance(part.images, Packed) and (part.labels == before.splits[split].labels).all()
        for index, small in enumerate(shrink_files(paths, ask.how)):
            assert isinstance(small, Small)
            image_HWC = part.images.read(index)
            assert image_HWC.shape == (small.height, small.width, 3) and str(paths[index]).endswith(
                str(part.images.paths[index])
            )
            if form == "raw":
                assert image_HWC.tobytes() == small.content
    assert module(name).digest(ask.root) != module(name).digest(ask.to)
    report = data_sets.check(name, ask.to)
    assert report.ok and report.digest == module(name).digest(ask.to)
    assert any(f"packed as {form}, side 8" in finding.text for finding in report.findings)


def test_every_data_set_is_packed_or_says_why_not(tmp_path: Path) -> None:
    for name in sorted(set(DATASETS) - set(PACKABLE)):
        if name in trees.WRITERS:
            trees.WRITERS[name](tmp_path / name)
        with pytest.raises(DataProblem, match=f"data set {name}: its ") as caught:
            pack(order(tmp_path / name, name=name, to=f"{name}-packed"), quiet)
        boxes = name in WITH_BOXES
        assert ("its boxes are in pixels of the originals" in str(caught.value)) == boxes
        assert ("its images are not files" in str(caught.value)) != boxes
        assert caught.value.hint and not list(tmp_path.glob("*packed*"))


def test_the_bytes_do_not_depend_on_processes_blocks_or_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    first = pack(order(root, "one"), lambda done, total: seen.append((done, total)))
    assert first == Done(images=31, bytes=len(contents(root.parent / "one")["images.bin"]), left_out=(), is_new=True)
    assert seen[0] == (0, 31) and seen[-1] == (31, 31) and seen == sorted(seen)
    monkeypatch.setattr(packing, "_PART", 3)
    pack(order(root, "three", workers=3), quiet)
    monkeypatch.setattr(packing, "BLOCK", 1000)
    shutil.copytree(root, root.parent / "elsewhere" / "deep")
    pack(Order(name="folder", root=root.parent / "elsewhere" / "deep", to=root.parent / "moved", how=HOW), quiet)
    assert sorted(contents(root.parent / "one")) == ["images.bin", "index.bin", "names.bin", "packed.json"]
    assert contents(root.parent / "one") == contents(root.parent / "three") == contents(root.parent / "moved")
    assert not [path.name for path in root.parent.iterdir() if "draft" in path.name]


def test_a_second_call_finds_the_store_and_another_order_is_refused(root: Path) -> None:
    first = pack(order(root), quiet)
    (root.parent / ".packed.draft" / "store").mkdir(parents=True)  # killed between its last two steps
    for _ in range(2):
        assert pack(order(root), quiet) == Done(first.images, first.bytes, (), is_new=False)
        assert not (root.parent / ".packed.draft").exists()
    with pytest.raises(DataProblem, match="a store of folder as jpeg, side 8, quality 90 is there") as caught:
        pack(order(root, how=Shrinking(form="raw", side=8)), quiet)
    assert "remove it, or name another folder" in caught.value.hint
    trees.image(root / "cat" / "new.png")
    with pytest.raises(DataProblem, match="or its originals changed"):
        pack(order(root), quiet)
    assert not (root.parent / ".packed.draft").exists()


def test_data_that_changes_while_it_is_packed_is_no_store(root: Path) -> None:
    def show(done: int, total: int) -> None:
        if done == 0:
            trees.image(root / "cat" / "0.png")

    with pytest.raises(DataProblem, match="it changed while it was packed"):
        pack(order(root), show)
    assert not (root.parent / "packed").exists()
    assert pack(order(root), quiet).is_new


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_image_ends_it_with_its_name_and_what_to_do(workers: int, root: Path) -> None:
    first, _ = damage(root, 6, 9)
    with pytest.raises(DataProblem, match="not a readable image") as caught:
        pack(order(root, workers=workers), quiet)
    assert str(first) in str(caught.value) and "--skip 1" in caught.value.hint
    assert not (root.parent / "packed").exists()
    with pytest.raises(DataProblem, match="not a readable image") as caught:
        pack(order(root, workers=workers, limit=1), quiet)
    assert "--skip 2" in caught.value.hint


def test_damaged_images_are_left_out_with_their_labels_and_told(root: Path) -> None:
    bad = damage(root, 6, 9)
    ask = order(root, limit=2)
    done = pack(ask, quiet)
    assert done.left_out == tuple(str(path.relative_to(root)) for path in bad) and done.images == 29
    before, after = module("folder").load(root).splits["train"], module("folder").load(ask.to).splits["train"]
    assert after.labels.tolist() == np.delete(before.labels, [6, 9]).tolist()
    names = [str(path.relative_to(root)) for path in originals(module("folder").load(root), "train")]
    assert isinstance(after.images, Packed)
    assert [str(path) for path in after.images.paths] == list(np.delete(names, [6, 9]))
    for index in range(len(after)):
        after.images.read(index)
    assert "2 damaged originals were left out" in str(data_sets.check("folder", ask.to).findings)


def test_a_split_without_an_image_is_refused(root: Path) -> None:
    path = root / "unlabeled" / "1.png"
    path.write_bytes(b"none")
    with pytest.raises(DataProblem, match="no image of the split unlabeled can be decoded"):
        pack(order(root, limit=1), quiet)


def test_room_is_looked_for_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2000))
    with pytest.raises(DataProblem, match="about 0.0 GB are needed, 0.0 GB are free") as caught:
        pack(order(root, how=Shrinking(form="raw", side=200)), quiet)
    assert "--to DIR" in caught.value.hint
    assert (root.parent / ".packed.draft" / "store" / "images.bin").stat().st_size == 0


def test_two_packings_of_one_store_do_not_meet(root: Path) -> None:
    with locked(root.parent / ".packed.draft" / "lock"), pytest.raises(Busy):
        pack(order(root), quiet)


def test_stores_do_not_lie_in_their_originals_nor_over_other_files(root: Path) -> None:
    for to in (root, root / "packed", root.parent):
        with pytest.raises(DataProblem, match="would lie in each other"):
            pack(order(root, to=str(to)), quiet)
    (root.parent / "mine").mkdir()
    pack(order(root, "mine"), quiet)  # an empty folder is no obstacle
    (root.parent / "yours").mkdir()
    (root.parent / "yours" / "thesis.tex").touch()
    (root.parent / "file").touch()
    for to in ("yours", "file"):
        with pytest.raises(DataProblem, match=f"{to}: something else is there"):
            pack(order(root, to), quiet)
    with pytest.raises(DataProblem, match="this is a packed store"):
        pack(order(root.parent / "mine", "again"), quiet)
    assert (root.parent / "yours" / "thesis.tex").exists()


def test_a_folder_that_cannot_be_made_and_unknown_names_are_told(root: Path) -> None:
    (root.parent / "file").touch()
    with pytest.raises(DataProblem, match="data set folder: .*file.*: Not a directory"):
        pack(order(root, "file/packed"), quiet)
    with pytest.raises(NotFound, match="foldr"):
        pack(order(root, name="foldr"), quiet)
    with pytest.raises(DataProblem, match="data set pets: .*there is no annotations"):
        pack(order(root, name="pets"), quiet)


def test_published_lists_go_along(tmp_path: Path) -> None:
    trees.imagenet(tmp_path / "in")
    (tmp_path / "in" / label_lists.FOLDER).mkdir()
    (tmp_path / "in" / label_lists.FOLDER / "1percent.txt").write_text("0.png\n")
    ask = order(tmp_path / "in", name="imagenet")
    pack(ask, quiet)
    assert label_lists.signature(ask.to) == label_lists.signature(ask.root) != ""


def test_a_check_of_a_damaged_store_fails_and_names_the_file(root: Path) -> None:
    ask = order(root)
    pack(ask, quiet)
    path = ask.to / "images.bin"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    report = data_sets.check("folder", ask.to)
    (finding,) = [finding for finding in report.findings if finding.level == "fail"]
    assert not report.ok and finding.text == "images.bin has not its sha256" and "anew" in finding.hint
    path.write_bytes(content[:-1])
    assert not data_sets.check("folder", ask.to).ok
