"""Files to a bucket and back over HTTP, through a way that fails."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.cluster import transfer
from orchestration.cluster.objects import Changed, Objects
from orchestration.cluster.transfer import Damaged
from orchestration.errors import StoreError
from tests.orchestration import s3
from tests.orchestration.s3 import Way


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture
def road(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    monkeypatch.setattr(transfer, "FIRST_S", 0.01)
    with s3.way(address) as found:
        yield found


@pytest.fixture
def there(road: Way, request: pytest.FixtureRequest) -> Objects:
    return s3.objects(road.address, f"{request.node.name}/")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def send(there: Objects, path: Path, content: bytes, key: str = "file") -> bool:
    path.write_bytes(content)
    with path.open("rb") as file:
        return transfer.upload(there, file.fileno(), key, digest=digest(content))


def test_what_is_there_is_not_sent_again(there: Objects, road: Way, tmp_path: Path) -> None:
    assert send(there, tmp_path / "a", b"abc")
    sent = sum(line.startswith("PUT") for line in road.asked)
    assert not send(there, tmp_path / "a", b"abc")
    assert sum(line.startswith("PUT") for line in road.asked) == sent
    assert send(there, tmp_path / "a", b"abd")  # the same size, another content
    transfer.download(there, "file", tmp_path / "b", digest=digest(b"abd"))
    assert (tmp_path / "b").read_bytes() == b"abd"


def test_an_upload_that_broke_off_goes_on_with_the_parts_that_are_missing(
    there: Objects, road: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(transfer, "AT_ONCE", 1)
    content = bytes(range(256)) * (11 << 12)  # 11 MiB: three parts
    road.refuse = lambda method, path: 403 if method == "PUT" and "partNumber=3" in path else None
    with pytest.raises(StoreError, match="UploadPart is refused: 403"):
        send(there, tmp_path / "a", content)
    road.refuse = None
    road.asked.clear()
    assert send(there, tmp_path / "a", content)
    assert [line.partition("partNumber=")[2][:1] for line in road.asked if "partNumber=" in line] == ["3"]
    transfer.download(there, "file", tmp_path / "b", digest=digest(content))
    assert (tmp_path / "b").read_bytes() == content


def test_parts_of_another_content_do_not_get_into_a_file(
    there: Objects, road: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    old, new = b"o" * (11 << 20), b"n" * (11 << 20)
    road.refuse = lambda method, path: 403 if method == "PUT" and "partNumber=3" in path else None
    with pytest.raises(StoreError):
        send(there, tmp_path / "a", old)
    road.refuse = None
    assert send(there, tmp_path / "a", new)
    assert not send(there, tmp_path / "a", new)  # and it says of itself what it is
    transfer.download(there, "file", tmp_path / "b", digest=digest(new))


def test_a_download_that_breaks_off_goes_on_where_it_stopped(there: Objects, road: Way, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    send(there, tmp_path / "a", content)
    cuts = iter([len(content) // 2])
    road.change = lambda method, path, body: body[: next(cuts, len(body))] if method == "GET" else body
    transfer.download(there, "file", tmp_path / "b", digest=digest(content))
    assert (tmp_path / "b").read_bytes() == content
    assert sum(line.startswith("GET") for line in road.asked) == 2


def test_a_changed_object_is_refused_and_leaves_nothing(there: Objects, road: Way, tmp_path: Path) -> None:
    send(there, tmp_path / "a", b"x" * 1000)
    road.change = lambda method, path, body: b"y" + body[1:] if method == "GET" else body
    with pytest.raises(Damaged, match="sha256"):
        transfer.download(there, "file", tmp_path / "b", digest=digest(b"x" * 1000))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_server_that_answers_500_is_asked_again(there: Objects, road: Way, tmp_path: Path) -> None:
    troubles = iter([500, 503])
    road.refuse = lambda method, path: next(troubles, None) if method == "PUT" else None
    assert send(there, tmp_path / "a", b"abc")
    assert there.get("file") is not None


def test_a_write_can_be_bound_to_what_is_there(there: Objects) -> None:
    tag = there.put("lease", b"1", only="")
    with pytest.raises(Changed):
        there.put("lease", b"2", only="")
    newer = there.put("lease", b"3", only=tag)
    with pytest.raises(Changed):
        there.put("lease", b"4", only=tag)
    assert there.get("lease") == (b"3", newer)
    assert there.get("lease", known=newer) is None
    assert there.get("none") is None
    assert there.stat("none") is None


def test_a_server_that_ignores_conditions_is_refused(there: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    there.require()
    put = type(there).put
    monkeypatch.setattr(type(there), "put", lambda self, key, body, **more: put(self, key, body))
    with pytest.raises(StoreError, match="ignores conditional writes"):
        there.require()


def test_listing_and_deleting_stay_below_the_prefix(there: Objects, address: str) -> None:
    for key in ("a/1", "a/2", "b"):
        there.put(key, b"x")
    s3.objects(address, "other/").put("a/1", b"x")
    assert [each.key for each in there.list("a/")] == ["a/1", "a/2"]
    there.delete(["a/1", "a/2", "not there"])
    assert [each.key for each in there.list("")] == ["b"]
    assert s3.objects(address, "other/").stat("a/1") is not None
