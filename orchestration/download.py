"""Download a file so that it can be interrupted at any byte, and unpack it so that nothing leaves its folder.

What has come so far lies in FILE.part; the next try asks the server for the rest. A file counts as there only when its
md5 is the published one.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestration import addresses
from orchestration.errors import DataProblem

Show = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole file, None where the server does not say."""

TRIES = 5  # in a row that bring nothing new
PAUSE_S = 1.0  # before the second try; it doubles
TIMEOUT_S = 60  # without a byte
_BLOCK = 1 << 20
_DAMAGED = (  # what unpacking raises: of a block cut short, a member that is encrypted or unknown, a full disk
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    OSError, EOFError, LookupError, ValueError, RuntimeError,
)  # fmt: skip


class _Named(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to where downloads may come from."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if problem := addresses.problem(newurl, addresses.HTTP):
            raise DataProblem(f"the server sends us to {newurl[:200]}: {problem}", place=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path, *, md5: str, show: Show) -> None:
    """Bring `url` to `target`, going on with what an earlier try left; a `target` with the right sum is kept.

    Raises: DataProblem when the server cannot be reached or gives up, the disk is full, or the sum is wrong.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        part = target
    else:
        _bring(url, part, show)
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise DataProblem(
            f"its md5 is {found}, not {md5}", place=url, hint="it was removed; run the command again to fetch it anew"
        )
    part.replace(target)


def md5_of(path: Path) -> str:
    """Return the md5 of a file (hex): published sums are md5; it guards against accidents, not against forgery."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _bring(url: str, part: Path, show: Show) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            if _continue(url, part, show):
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataProblem(f"the server answers {error.code} {error.reason}", place=url) from error
            problem = f"the server answers {error.code} {error.reason}"
        except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error) or type(error).__name__)
        except OSError as error:
            raise DataProblem(
                f"{error.filename or part}: {error.strerror}", place=url, hint="is the disk full?"
            ) from error
        failures = 0 if _size(part) > before else failures + 1
        if failures >= TRIES:
            hint = f"{_size(part):,} bytes are kept; run the command again to go on from there"
            raise DataProblem(problem, place=url, hint=hint)
        time.sleep(PAUSE_S * 2 ** max(0, failures - 1))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _continue(url: str, part: Path, show: Show) -> bool:
    """Append what is still missing of `url` to `part`; return whether that is all of it."""
    done = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310  # our table
    try:
        answer = urllib.request.build_opener(_Named).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return True  # nothing is left to send; the sum says whether it is the file
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # it sends the whole file, whatever was asked for
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdecimal() else None
        _room(part.parent, (total or done) - done)
        with part.open("ab" if done else "wb") as stream:
            show(done, total)
            while block := answer.read(_BLOCK):
                stream.write(block)
                done += len(block)
                show(done, total)
    return total is None or done >= total


def _room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        fact = f"{needed / 1e9:.1f} GB are to come, and {free / 1e9:.1f} GB are free"
        raise DataProblem(fact, place=str(folder), hint="free some space, or name another folder")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file into `folder`; running it again after an interruption completes it.

    Raises: DataProblem when it is damaged, or a member would land outside of `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    _check(member, folder)
                opened.extractall(folder)  # noqa: S202  # every member was checked
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")  # refuses what leaves the folder, links included, and devices
    except tarfile.FilterError as error:
        raise DataProblem(
            f"it holds a member that does not belong into {folder}: {error}", place=str(archive)
        ) from error
    except _DAMAGED as error:
        raise DataProblem(f"it cannot be unpacked: {error}", place=str(archive), hint="is the disk full?") from error


def _check(member: zipfile.ZipInfo, folder: Path) -> None:
    inside = (folder / member.filename).resolve().is_relative_to(folder.resolve())
    if not inside or stat.S_ISLNK(member.external_attr >> 16):
        raise DataProblem(f"it holds {member.filename!r}, which does not belong into {folder}")
