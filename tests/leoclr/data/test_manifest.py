"""The manifest comes back as it was written; what is not one is one error."""

from pathlib import Path
from typing import Any

import pytest

from leoclr.data import manifest
from leoclr.data.contract import DataError
from tests.leoclr.data import stores


def test_what_is_written_is_read(tmp_path: Path) -> None:
    stores.write(tmp_path)
    found = manifest.read(tmp_path)
    (tmp_path / "packed.json").write_text(manifest.encode(found))
    assert manifest.read(tmp_path) == found
    assert list(found.splits.items()) == [("train", 4), ("test", 2)]


def test_every_byte_counts(tmp_path: Path) -> None:
    stores.write(tmp_path)
    path = tmp_path / "packed.json"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError) as caught:
            manifest.read(tmp_path)
        assert str(path) in str(caught.value) and "anew" in caught.value.hint
    for at in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at])
        with pytest.raises(DataError, match=r"packed.json: a damaged manifest"):
            manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"', "[" * 100_000, "{}", '{"version": 1}', "\ud800"])
def test_what_is_no_manifest_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "packed.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"packed.json: a damaged manifest"):
        manifest.read(tmp_path)


def test_a_later_version_asks_for_an_update(tmp_path: Path) -> None:
    stores.write(tmp_path)
    (tmp_path / "packed.json").write_text('{"format": "leoclr-ops packed images", "version": 2, "shards": []}')
    with pytest.raises(DataError, match="a store of version 2, this program reads version 1") as caught:
        manifest.read(tmp_path)
    assert "update leoclr-ops" in caught.value.hint


CHANGES: dict[str, Any] = {
    "form": "png",
    "side": 0,
    "quality": "90",
    "splits": [["train", 4]],
    "mean": [0.1, 0.2],
    "metric": "auc",
    "valid_size": -1,
    "left_out": None,
    "files": {"images.bin": {"bytes": 1, "sha256": ""}},
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_sealed_manifest_of_nonsense_is_refused(key: str, tmp_path: Path) -> None:
    stores.write(tmp_path)
    stores.seal(tmp_path, {**stores.said(tmp_path), key: CHANGES[key]})
    with pytest.raises(DataError, match="a damaged manifest"):
        manifest.read(tmp_path)


def test_counts_are_whole_numbers_that_fit(tmp_path: Path) -> None:
    for count in (True, 1.0, 0, 1 << 70):
        stores.write(tmp_path)
        stores.seal(tmp_path, {**stores.said(tmp_path), "splits": [["train", count], ["test", 2]]})
        with pytest.raises(DataError, match="a damaged manifest"):
            manifest.read(tmp_path)


def test_files_that_a_manifest_adds_are_not_looked_at(tmp_path: Path) -> None:
    stores.write(tmp_path)
    changed = stores.said(tmp_path)
    changed["files"]["../../etc/passwd"] = {"bytes": 1, "sha256": ""}
    stores.seal(tmp_path, changed)
    with pytest.raises(DataError, match="a damaged manifest"):  # its seal covers what is not understood
        manifest.read(tmp_path)
