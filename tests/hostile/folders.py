"""Data sets and stores on disk with one thing wrong: a file cut, forged, linked away, or no file at all."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from leoclr import data
from leoclr.data.files import SUFFIXES
from tests.hostile.documents import ODD_TEXT
from tests.leoclr.data import stores, trees

READ = 3  # images of each split that are decoded
SPARSE = 1 << 40  # bytes that a file claims and the disk does not hold
ODD_LINES = [text for text in ODD_TEXT if len(text) < 400]


def read(name: str, root: Path) -> None:
    """Ask for a data set as a stage does: its digest, its splits, the first images of each."""
    module = data.module(name)
    module.digest(root)
    for split in module.load(root).splits.values():
        for index in range(min(READ, len(split))):
            split.images.read(index)


class Tree:
    """An honest data set, spoilt and mended again."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self._honest, self.root = name, root / "honest", root / "spoilt"
        trees.WRITERS[name](self._honest)
        self.files = sorted(path.relative_to(self._honest) for path in self._honest.rglob("*") if path.is_file())
        self._copy()

    def _copy(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._honest, self.root)

    def spoil(self, file: Path, act: Callable[[Path], None]) -> Path:
        """Do `act` to one file of an honest tree."""
        self._copy()
        act(self.root / file)
        return self.root


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # an address has no room for a long path
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    if path.suffix.lower() in SUFFIXES:  # a list of any length has to be read
        with path.open("r+b") as stream:
            stream.truncate(SPARSE)


def _beside(path: Path) -> None:
    Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\x1b[2J.jpg")).write_bytes(b"x")


INSTEAD: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "a pipe": _instead(os.mkfifo),
    "a socket": _instead(_socket),
    "a folder": _instead(Path.mkdir),
    "a link to a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a link out": _instead(lambda path: path.symlink_to("/etc/passwd")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "a link to the folder above": _instead(lambda path: path.symlink_to("..")),
    "a link to nothing": _instead(lambda path: path.symlink_to("gone")),
    "a hard link": _instead(lambda path: os.link(__file__, path)),
    "a terabyte of nothing": _sparse,
    "a name beside it that is no text": _beside,
}


@st.composite
def spoils(draw: st.DrawFn) -> tuple[int, Callable[[Path], None]]:
    """Return which file to spoil (modulo their number), and how."""
    which = draw(st.integers(0, 10**6))
    act = draw(st.sampled_from((*INSTEAD, "flip", "flip", "cut", "line", "line", "word", "word", "number")))
    if act in INSTEAD:
        return which, INSTEAD[act]
    places = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
    odd, byte = draw(st.sampled_from(ODD_LINES)), draw(st.integers(0, 255))
    return which, functools.partial(_change, act=act, places=places, odd=odd, byte=byte)


def _change(path: Path, *, act: str, places: list[int], odd: str, byte: int) -> None:
    content = bytearray(path.read_bytes())
    if act == "cut":
        del content[places[0] % max(1, len(content)) :]
    for place in places if content and act == "flip" else ():
        content[place % len(content)] = byte
    if act in ("line", "word", "number"):
        joint = {"line": b"\n", "word": b" ", "number": b","}[act]
        parts = bytes(content).split(joint)
        parts[places[0] % len(parts)] = odd.encode("utf-8", "surrogatepass")
        content = bytearray(joint.join(parts))
    path.write_bytes(content)


Field = tuple[str, ...]


def store(root: Path, form: str = "raw") -> dict[Field, Any]:
    """Write an honest packed store; return every value of its manifest by path."""
    shutil.rmtree(root, ignore_errors=True)
    stores.write(root, form)
    return dict(_leaves(stores.said(root)))


def _leaves(tree: Any, path: Field = ()) -> list[tuple[Field, Any]]:
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [(path, tree), *(leaf for key, below in items for leaf in _leaves(below, (*path, str(key))))]
    return [(path, tree)]


def forge(root: Path, path: Field, value: Any, *, seal: bool) -> None:
    """Put `value` at `path` of a store's manifest, sealed anew or not."""
    said = json.loads((root / "packed.json").read_text()) if not seal else stores.said(root)
    node: Any = said
    for step in path[:-1]:
        node = node[int(step) if isinstance(node, list) else step]
    if path:
        node[int(path[-1]) if isinstance(node, list) else path[-1]] = value
    content = said if path else value
    if seal and isinstance(content, dict):
        stores.seal(root, content)
    else:
        (root / "packed.json").write_text(json.dumps(content))


def forge_record(root: Path, at: int, record: tuple[int, int, int, int]) -> None:
    """Put another record (offset, height, width, label) at `at` into a store's index, and seal it."""
    content = bytearray((root / "index.bin").read_bytes())
    size = struct.calcsize("<QIIq")
    start = at % (len(content) // size) * size
    content[start : start + size] = struct.pack("<QIIq", *record)
    stores.replace(root, "index.bin", bytes(content))
