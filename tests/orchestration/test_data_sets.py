import dataclasses
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from leoclr.data import DATASETS, module
from orchestration import archives, data_sets
from orchestration.errors import DataProblem, NotFound
from orchestration.storage import Busy, locked
from tests.leoclr.data import trees
from tests.orchestration.test_download import Server, quiet


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def found(report: data_sets.Report, level: str) -> str:
    return "\n".join(finding.text for finding in report.findings if finding.level == level)


@pytest.mark.parametrize("name", sorted(trees.WRITERS))
def test_a_whole_set_is_reported_with_its_digest_and_counts(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    trees.WRITERS[name](root)
    report = data_sets.check(name, root)
    data = module(name).load(root)
    assert report.ok and report.digest == module(name).digest(root)
    assert report.counts == {split: len(part) for split, part in data.splits.items()}
    assert report.classes == len(data.classes)
    if name in archives.COUNTS:  # a tiny tree is not the published set, and is said not to be
        assert f"published are {archives.COUNTS[name]['train']:,} train" in found(report, "warn")


def test_a_set_of_the_published_size_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.pets(tmp_path)
    monkeypatch.setattr(data_sets, "COUNTS", {"pets": {"train": 6, "test": 6, "classes": 3}})
    report = data_sets.check("pets", tmp_path)
    assert "6 train, 6 test, 3 classes, as published" in found(report, "ok") and not found(report, "warn")


@pytest.mark.parametrize("name", sorted(trees.WRITERS))
def test_a_missing_set_fails_with_what_to_do(name: str, tmp_path: Path) -> None:
    report = data_sets.check(name, tmp_path / "nowhere")
    assert not report.ok and report.digest is None
    (finding,) = report.findings
    assert "nowhere" in finding.text and "expected " in finding.hint
    assert (f"leoclr-ops data fetch {name} " in finding.hint) == (name in archives.ARCHIVES)


def test_files_are_compared_with_their_published_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.cifar10(tmp_path)
    assert "7 of 7 files have not the published md5" in found(data_sets.check("cifar10", tmp_path), "warn")
    base = tmp_path / "cifar-10-batches-py"
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in base.iterdir()}
    monkeypatch.setattr(data_sets, "MD5", {"cifar10": sums})
    for root in (tmp_path, base):
        assert "7 files have the published md5" in found(data_sets.check("cifar10", root), "ok")
    sums["test_batch"] = "0" * 32
    assert "1 of 7 files have not the published md5: test_batch" in found(data_sets.check("cifar10", tmp_path), "warn")


def test_images_that_are_gone_from_the_web_are_counted_and_named(tmp_path: Path) -> None:
    trees.birdsnap(tmp_path)
    text = found(data_sets.check("birdsnap", tmp_path), "warn")
    assert "3 listed images are not there: Coopers_Hawk/1002.jpg, Blue_Jay/2002.jpg, Gadwall/3002.jpg" in text


def test_damaged_images_fail_with_their_names_and_the_policy_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.imagenet(tmp_path)
    path = tmp_path / "train" / trees.WNIDS[1] / f"{trees.WNIDS[1]}_2.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    monkeypatch.setattr(data_sets, "SAMPLE", 2)
    sampled = data_sets.check("imagenet", tmp_path)
    assert sampled.ok and "4 images decoded, a sample; --decode reads all" in found(sampled, "ok")
    report = data_sets.check("imagenet", tmp_path, decode=True)
    assert not report.ok and f"16 images decoded; 1 are damaged: {path}" in found(report, "fail")
    assert "corrupt: {policy: skip, limit: 1}" in report.findings[-1].hint


def test_a_check_lists_anew_what_a_plan_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leoclr.data import digest_cache

    monkeypatch.setattr(digest_cache, "_SETTLED_NS", -(10**12))
    trees.imagenet(tmp_path)
    first = data_sets.check("imagenet", tmp_path).digest
    path = next((tmp_path / "val" / trees.WNIDS[0]).iterdir())
    path.write_bytes(path.read_bytes() + b"0")
    assert module("imagenet").digest(tmp_path) == first
    assert data_sets.check("imagenet", tmp_path).digest != first


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    for ask in (lambda: data_sets.check("cifar_10", tmp_path), lambda: data_sets.fetch("cifar_10", tmp_path, quiet)):
        with pytest.raises(NotFound, match="cifar_10") as caught:
            ask()
        assert "cifar10" in caught.value.hint


@pytest.mark.parametrize("name", [*archives.BY_HAND, "folder"])
def test_what_no_program_may_download_says_where_it_is_and_how_it_must_lie(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=f"data set {name}: it is not there, and cannot be downloaded") as caught:
        data_sets.fetch(name, tmp_path / "root", quiet)
    assert archives.BY_HAND.get(name, "your own images") in caught.value.hint
    assert "expected " in caught.value.hint
    assert not (tmp_path / "root").exists()
    trees.WRITERS[name](tmp_path / "root")
    assert data_sets.fetch(name, tmp_path / "root", quiet) == ()


def test_what_comes_inside_a_package_is_there(tmp_path: Path) -> None:
    rest = set(DATASETS) - set(archives.ARCHIVES) - set(archives.BY_HAND) - {"folder"}
    assert [data_sets.fetch(name, tmp_path / "root", quiet) for name in rest] == [()] * 3


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves COCO as three zip files, as its publishers do: the only set whose archives go into a folder of ours."""
    source = tmp_path / "source"
    trees.coco(source)
    files, table = {}, []
    for archive in archives.ARCHIVES["coco"]:
        path = tmp_path / archive.name
        with zipfile.ZipFile(path, "w") as zipped:
            for member in sorted((source / archive.makes).rglob("*")):
                zipped.write(member, member.relative_to(source / archive.into))
        files["/" + archive.url.split("/", 3)[3]] = path.read_bytes()
        table.append(dataclasses.replace(archive, md5=hashlib.md5(path.read_bytes()).hexdigest()))
    monkeypatch.setattr(data_sets, "ARCHIVES", {"coco": tuple(table)})
    server = Server(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_set_is_fetched_unpacked_and_usable_and_the_second_time_nothing_comes(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    brought = data_sets.fetch("coco", root, quiet, mirror=server.address)
    assert brought == ("annotations_trainval2017.zip", "val2017.zip", "train2017.zip")
    assert data_sets.check("coco", root).ok
    assert module("coco").digest(root) == module("coco").digest(tmp_path / "source")
    asked = len(server.asked)
    assert data_sets.fetch("coco", root, quiet, mirror=server.address) == ()
    assert len(server.asked) == asked
    assert not list((root / ".fetch").glob("*.zip"))


def test_what_the_user_removed_is_fetched_again_and_the_rest_is_not(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    data_sets.fetch("coco", root, quiet, mirror=server.address)
    for path in sorted((root / "coco" / "val2017").iterdir()):
        path.unlink()
    (root / "coco" / "val2017").rmdir()
    assert data_sets.fetch("coco", root, quiet, mirror=server.address) == ("val2017.zip",)
    assert data_sets.check("coco", root).ok


def test_a_forged_archive_is_refused_and_nothing_of_it_is_unpacked(server: Server, tmp_path: Path) -> None:
    server.files["/zips/val2017.zip"] = b"PK forged"
    with pytest.raises(DataProblem, match="its md5 is"):
        data_sets.fetch("coco", tmp_path / "root", quiet, mirror=server.address)
    assert not (tmp_path / "root" / "coco" / "val2017").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataProblem, match="data set cifar10: .*file.*: Not a directory"):
        data_sets.fetch("cifar10", tmp_path / "file" / "below", quiet)


def test_two_fetches_into_one_folder_do_not_meet(server: Server, tmp_path: Path) -> None:
    with locked(tmp_path / "root" / ".fetch" / "lock"), pytest.raises(Busy):
        data_sets.fetch("coco", tmp_path / "root", quiet, mirror=server.address)


def test_the_tables_name_known_sets_and_whole_sums() -> None:
    for table in (archives.ARCHIVES, archives.BY_HAND, archives.MD5, archives.COUNTS):
        assert set(table) <= set(DATASETS)
    assert not set(archives.ARCHIVES) & set(archives.BY_HAND)
    sums = [archive.md5 for each in archives.ARCHIVES.values() for archive in each]
    sums += [md5 for files in archives.MD5.values() for md5 in files.values()]
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums) and len(set(sums)) == len(sums)


def test_sums_and_addresses_are_torchvisions() -> None:
    from torchvision import datasets

    table = {name: [(each.url, each.md5) for each in archives.ARCHIVES[name]] for name in archives.ARCHIVES}
    for name, theirs in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        assert table[name] == [(theirs.url, theirs.tgz_md5)]
        files = {**dict(theirs.train_list + theirs.test_list), theirs.meta["filename"]: theirs.meta["md5"]}
        assert archives.MD5[name] == files
    assert table["stl10"] == [(datasets.STL10.url, datasets.STL10.tgz_md5)]
    assert archives.MD5["stl10"] == dict(datasets.STL10.train_list + datasets.STL10.test_list)
    assert table["pets"] == list(datasets.OxfordIIITPet._RESOURCES)
    years = datasets.voc.DATASET_YEAR_DICT
    assert table["voc0712"] == [(years[year]["url"], years[year]["md5"]) for year in ("2007", "2007-test", "2012")]
