import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestration import download as downloads
from orchestration.download import download, unpack
from orchestration.errors import DataProblem

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves files with Range, as web servers do; `breaks` cuts so many answers short."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.breaks, self.refuses, self.ranges = files, 0, 0, True
        self.asked: list[str | None] = []  # the Range header of each request

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that is killed hangs up

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        content = server.files.get(self.path)
        if server.refuses or content is None:
            server.refuses -= content is not None
            self.send_error(404 if content is None else 503)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        broken = server.breaks > 0
        server.breaks -= broken
        self.wfile.write(content[start : start + 1_200_000] if broken else content[start:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "PAUSE_S", 0.001)
    server = Server({"/a.bin": CONTENT})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def quiet(done: int, total: int | None) -> None:
    pass


def test_a_file_comes_whole_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=lambda *numbers: told.append(numbers))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert told == sorted(told) and told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_an_interrupted_download_goes_on_with_what_is_there(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    told: list[int] = []
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=lambda done, total: told.append(done))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1200000-", "bytes=2400000-"]
    assert told == sorted(told)


def test_a_killed_download_goes_on_in_the_next_process(server: Server, tmp_path: Path) -> None:
    def die(done: int, total: int | None) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=die)
    kept = (tmp_path / "a.bin.part").stat().st_size
    assert 0 < kept < len(CONTENT) and not (tmp_path / "a.bin").exists()
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_sum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    for name in ("a.bin", "a.bin.part"):
        (tmp_path / name).write_bytes(CONTENT[:-1] + b"\0")
        with pytest.raises(DataProblem, match=f"its md5 is [0-9a-f]{{32}}, not {MD5}") as caught:
            download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
        assert "run the command again" in caught.value.hint
        assert not list(tmp_path.iterdir())
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_dead_one_given_up(server: Server, tmp_path: Path) -> None:
    server.refuses = 3
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    server.refuses, server.asked = 100, []
    (tmp_path / "b.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataProblem, match="the server answers 503") as caught:
        download(f"{server.address}/a.bin", tmp_path / "b.bin", md5=MD5, show=quiet)
    assert len(server.asked) == downloads.TRIES
    assert caught.value.hint.startswith("1,000 bytes are kept")


def test_a_missing_file_and_an_unreachable_server_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=r"/none\.bin: the server answers 404"):
        download(f"{server.address}/none.bin", tmp_path / "none.bin", md5=MD5, show=quiet)
    assert len(server.asked) == 1
    with pytest.raises(DataProblem, match="refused"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)


def test_a_full_disk_is_said_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloads.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DataProblem, match=r"0\.0 GB are free"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, show=quiet)
    assert not list(tmp_path.iterdir())


def tar(path: Path, **members: bytes | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_tar_and_zip_are_unpacked_and_unpacked_again(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.txt", "zip")
    tar(tmp_path / "a.tar.gz", **{"in/b.txt": b"tar"})
    for _ in range(2):
        for name in ("a.zip", "a.tar.gz"):
            unpack(tmp_path / name, tmp_path / "out")
        assert (tmp_path / "out" / "in" / "a.txt").read_text() == "zip"
        assert (tmp_path / "out" / "in" / "b.txt").read_text() == "tar"


@pytest.mark.parametrize(
    "members",
    [
        {"../escaped": b"x"},
        {"in/../../escaped": b"x"},
        {"link": link("link", "../", tarfile.SYMTYPE)},
        {"link": link("link", "/etc/passwd", tarfile.SYMTYPE)},
        {"link": link("link", "../escaped", tarfile.LNKTYPE)},
        {"device": link("device", "", tarfile.CHRTYPE)},
    ],
)
def test_a_tar_that_leaves_its_folder_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    (tmp_path / "deep").mkdir()
    archive = tar(tmp_path / "a.tar.gz", **members)
    with pytest.raises(DataProblem, match=r"a\.tar\.gz: it holds a member that does not belong"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("escaped")) and not list((tmp_path / "deep" / "out").iterdir())


def test_a_zip_that_leaves_its_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    symlink = zipfile.ZipInfo("link")
    symlink.external_attr = 0o120777 << 16
    for number, member in enumerate(("../escaped", "/tmp/escaped", symlink)):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("fine.txt", "x")
            archive.writestr(member, "/etc/passwd")
        with pytest.raises(DataProblem, match="does not belong"):
            unpack(path, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.txt", "a" * 1000)
        content = bytearray((tmp_path / name).read_bytes())
        content[60] ^= 1
        (tmp_path / name).write_bytes(content)
    else:
        path = tar(tmp_path / name, a=np.random.default_rng(0).bytes(100_000))
        path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataProblem, match=rf"{name}: it cannot be unpacked"):
        unpack(tmp_path / name, tmp_path / "out")
