"""Published lists of labeled images are taken as published or not at all, and a digest covers them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from leoclr.data import folder, label_lists
from leoclr.data.contract import DataError
from leoclr.data.label_lists import FOLDER, IMAGENET_LISTS, LabelList

CONTENT = "n01_1.JPEG\nn02_2.JPEG\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "1percent.txt").write_text(CONTENT)
    return tmp_path


def known(content: str, *, lines: int = 2) -> dict[float, LabelList]:
    return {1.0: LabelList("1percent.txt", lines, hashlib.sha256(content.encode()).hexdigest())}


def test_the_published_lists_are_those_of_simclr() -> None:
    assert {pct: (each.file, each.lines, each.sha256[:8]) for pct, each in IMAGENET_LISTS.items()} == {
        1.0: ("1percent.txt", 12_811, "71e82a48"),
        10.0: ("10percent.txt", 128_116, "6d09de11"),
    }


def test_a_published_list_is_read(root: Path) -> None:
    assert label_lists.read(root, 1.0, known(CONTENT)) == ["n01_1.JPEG", "n02_2.JPEG"]
    assert label_lists.read(root, 10.0) is None
    assert label_lists.read(root, 2.0) is None
    assert label_lists.read(root / "elsewhere", 1.0) is None


def test_other_counts_and_digests_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"1percent\.txt: 2 lines, the published list has 12811"):
        label_lists.read(root, 1.0)
    with pytest.raises(DataError, match=r"1percent\.txt: sha256 \w{8}\.\.\., the published list has"):
        label_lists.read(root, 1.0, known("n01_1.JPEG\nn02_3.JPEG\n"))


def test_a_digest_moves_with_the_lists(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "a").mkdir(parents=True)
        (root / split / "a" / "1.png").write_bytes(b"x")
    with_list = folder.digest(root)
    (root / FOLDER / "1percent.txt").write_text("n01_1.JPEG\n")
    other_list = folder.digest(root)
    (root / FOLDER / "1percent.txt").unlink()
    assert len({with_list, other_list, folder.digest(root)}) == 3
    assert label_lists.signature(root) == ""
