"""Archives with members that want to be elsewhere, or to be something else than files."""

from __future__ import annotations

import functools
import io
import stat
import tarfile
import zipfile

from hypothesis import strategies as st

NAMES = (
    "../escaped",
    "/escaped",
    "a/../../escaped",
    "..",
    "./../escaped",
    "a//../..//escaped",
    "\\..\\escaped",
    "good/x",
    "",
)
LINKS = ("/etc/passwd", "../../escaped", "..", "/dev/zero", "good", "link", "a/../..")


def _member(name: str, kind: bytes, link: str = "", mode: int = 0o4777) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def tar(members: list[tuple[tarfile.TarInfo, bytes]], how: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=how) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: list[tuple[str, int, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in members:
            info = zipfile.ZipInfo(name or "x")
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@functools.cache
def fixed() -> dict[str, bytes]:
    """Return archives by what is wrong in them."""
    first = (_member("good/x", tarfile.REGTYPE), b"x")
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    found = {f"tar {name}": tar([first, (_member(name, tarfile.REGTYPE), b"x")]) for name in NAMES}
    found |= {f"tar {kind!r} to {to}": tar([first, (_member("link", kind, to), b"")]) for kind in kinds for to in LINKS}
    through = [(_member("link", tarfile.SYMTYPE, ".."), b""), (_member("link/escaped", tarfile.REGTYPE), b"x")]
    found["tar through a link"] = tar(through)
    found |= {f"zip {name}": zipped([("good/y", 0o644, b"x"), (name, 0o644, b"x")]) for name in NAMES}
    found |= {f"zip link to {to}": zipped([("link", stat.S_IFLNK | 0o777, to.encode())]) for to in LINKS}
    found["tar.gz"] = tar([first], "w:gz")
    found["empty"] = b""
    return found


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return an archive as it is, cut or flipped."""
    content = bytearray(fixed()[draw(st.sampled_from(sorted(fixed())))])
    act = draw(st.sampled_from(("none", "cut", "flip")))
    if content and act == "cut":
        del content[draw(st.integers(0, len(content) - 1)) :]
    for _ in range(draw(st.integers(1, 6)) if content and act == "flip" else 0):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)
