import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr.data import corrupt, folder, voc0712, without_corrupt
from leoclr.data.contract import Corrupt, DataError, DataSet
from leoclr.data.files import Files
from tests.leoclr.data import trees


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for index in range(6):
                trees.image(tmp_path / part / name / f"{index}.jpg", side=40)
    return folder.load(tmp_path)


def damage(path: Path) -> str:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


def settle(data: DataSet) -> None:
    """Give all images an old time of change, so that verdicts on them are remembered."""
    for split in data.splits.values():
        for path in split.images.paths:
            os.utime(path, ns=(10**18, 10**18))


def test_damaged_images_leave_their_split_with_their_labels(data: DataSet, caplog: pytest.LogCaptureFixture) -> None:
    train, test = data.splits["train"].images.paths, data.splits["test"].images.paths
    bad = [damage(train[2]), damage(train[7]), damage(test[0])]
    with caplog.at_level(logging.WARNING, "leoclr"):
        kept, names = without_corrupt(data, limit=3)
    assert names == tuple(bad)
    assert all(name in caplog.text for name in bad) and "3 damaged images of folder" in caplog.text
    assert kept.splits["train"].images.paths == train[:2] + train[3:7] + train[8:]
    assert kept.splits["train"].labels.tolist() == [0] * 5 + [1] * 5
    assert kept.splits["test"].labels.tolist() == [0] * 5 + [1] * 6
    for split in kept.splits.values():
        for index in range(len(split)):
            split.images.read(index)
    assert (kept.classes, kept.mean) == (data.classes, data.mean)


def test_more_than_the_limit_is_an_error_that_counts_and_names(data: DataSet) -> None:
    bad = [damage(path) for path in data.splits["train"].images.paths[:2]]
    with pytest.raises(DataError, match="2 images of folder cannot be decoded, more than the 1") as caught:
        without_corrupt(data, limit=1)
    assert all(name in str(caught.value) for name in bad)


def test_whole_data_is_left_as_it_is(data: DataSet, caplog: pytest.LogCaptureFixture) -> None:
    kept, names = without_corrupt(data, limit=0)
    assert (kept, names, caplog.text) == (data, (), "")


def test_scenes_leave_with_their_image(tmp_path: Path) -> None:
    trees.voc0712(tmp_path)
    data = voc0712.load(tmp_path)
    damage(data.splits["train"].images.paths[1])
    kept, _ = without_corrupt(data, limit=1)
    ours, all_of_them = kept.splits["train"], data.splits["train"]
    assert ours.scenes == (all_of_them.scenes[0], *all_of_them.scenes[2:])
    assert len(ours) == len(ours.scenes) == 3 and len(ours.labels) == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no picture", b"<html>404</html>"])
def test_what_is_no_picture_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert list(corrupt.unreadable([Files((path,))])) == [path]


def test_a_decompression_bomb_is_found_and_odd_modes_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{mode}.{suffix}" for mode, suffix in (("CMYK", "jpg"), ("P", "png"), ("I;16", "png"))]
    for path in paths:
        Image.new(path.stem, (6, 6)).save(path)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (60, 60)).save(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert list(corrupt.unreadable([Files((*paths, bomb))])) == [bomb]


def test_verdicts_are_remembered_until_a_file_changes(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(data.splits["train"].images.paths[0])
    settle(data)
    read: list[Path] = []
    decode = corrupt._reason
    monkeypatch.setattr(corrupt, "_reason", lambda path: read.append(path) or decode(path))
    first = without_corrupt(data, limit=1)[1]
    assert len(read) == 24
    assert (without_corrupt(data, limit=1)[1], len(read)) == (first, 24)
    trees.image(data.splits["train"].images.paths[0])
    assert without_corrupt(data, limit=0)[1] == ()
    assert len(read) == 24 + 12  # the other split stays as it was


def test_an_interrupted_pass_goes_on_where_it_was(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrupt, "_CHUNK", 4)
    settle(data)
    decode, read = corrupt._reason, []

    def stop(path: Path) -> str:
        read.append(path)
        if len(read) > 9:
            raise KeyboardInterrupt
        return decode(path)

    monkeypatch.setattr(corrupt, "_reason", stop)
    with pytest.raises(KeyboardInterrupt):
        without_corrupt(data, limit=0)
    again: list[Path] = []
    monkeypatch.setattr(corrupt, "_reason", lambda path: again.append(path) or decode(path))
    without_corrupt(data, limit=0)
    assert len(again) == 24 - 8


def test_a_file_that_just_changed_is_decoded_again(data: DataSet, home: Path) -> None:
    without_corrupt(data, limit=0)
    assert not list(home.rglob("image-verdicts.json"))


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"x": "y"}}'])
def test_a_damaged_memory_is_started_anew(data: DataSet, home: Path, content: str) -> None:
    settle(data)
    without_corrupt(data, limit=0)
    (memory,) = home.rglob("image-verdicts.json")
    memory.write_text(content)
    assert without_corrupt(data, limit=0)[1] == ()


def test_a_file_that_the_system_cannot_read_is_no_damaged_image(data: DataSet) -> None:
    data.splits["train"].images.paths[3].unlink()
    with pytest.raises(DataError, match=r"3\.jpg.*No such file"):
        without_corrupt(data, limit=10)


def test_a_split_without_any_good_image_is_refused(data: DataSet) -> None:
    for path in data.splits["test"].images.paths:
        damage(path)
    with pytest.raises(DataError, match="no image of a split"):
        without_corrupt(data, limit=100)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"policy": "ignore"}, "policy: 'ignore' is neither"),
        ({"policy": "skip", "limit": -1}, "limit: -1 is negative"),
        ({"limit": 3}, "limit: 3 images may be left out, but the policy is fail"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Corrupt(**fields)


def test_labels_stay_an_array_of_the_contract(data: DataSet) -> None:
    damage(data.splits["train"].images.paths[0])
    labels = without_corrupt(data, limit=1)[0].splits["train"].labels
    assert isinstance(labels, np.ndarray) and labels.dtype == np.int64
