"""MATLAB files of version 5 as plain values, for lists that come as such: text, numbers, cells and structures.

SciPy's reader is compiled code that trusts what a file says of itself: one changed byte of a list ends the process with
a segmentation fault (scipy 1.17, io/matlab/_mio5.pyx). Here each length is held against the bytes that are there.

Source: MATLAB, "MAT-File Format", R2023b, chapter 1, version 5.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np

from leoclr.data.contract import DataError

Value: TypeAlias = "str | float | list[float] | list[Value] | list[dict[str, Value]]"
"""A text; a number, or several; the cells of a cell array; the elements of a structure, by field. Column by column."""

MAX_BYTES = 1 << 28  # of a list once it is unpacked: those of Stanford Cars have 3 MB
_MAX_DEPTH = 8  # of cells and structures inside each other
_HEADER = 128  # bytes
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCTURE, _CHARACTERS = 1, 2, 4  # classes of a matrix; 6 to 15 are numbers


def read(path: Path, name: str, hint: str) -> Value:
    """Return the variable `name` of a file. Raises: DataError when it is damaged, of another version, or has none."""
    try:
        return _variable(path.read_bytes(), name)
    except (OSError, ValueError, LookupError, zlib.error) as error:
        raise DataError(f"{path}: not a readable MATLAB file with `{name}`: {error}", hint=hint) from error


def _variable(content: bytes, name: str) -> Value:
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is not of version 5")
    parts = _Parts(content, order, start=_HEADER)
    while not parts.is_over:
        kind, data = parts.next()
        if kind == _COMPRESSED:
            kind, data = _Parts(_unpacked(data), order).next()
        if kind == _MATRIX and (found := _matrix(data, order, wanted=name)) is not None:
            return found
    raise ValueError("there is no such variable")


def _unpacked(data: bytes) -> bytes:
    engine = zlib.decompressobj()
    whole = engine.decompress(data, MAX_BYTES)
    if engine.unconsumed_tail or not engine.eof:
        raise ValueError("what is compressed is cut short, or too large")
    return whole


class _Parts:
    """The elements of a file or of a matrix, one after the other."""

    def __init__(self, content: bytes, order: str, *, start: int = 0) -> None:
        self._content, self._order, self._at = content, order, start

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._content)

    def next(self) -> tuple[int, bytes]:
        """Return kind and bytes of the next element. Raises: ValueError where it reaches beyond the end."""
        first, size = self._words(self._at), self._words(self._at + 4)
        start, kind = self._at + 8, first
        if first >> 16:  # up to 4 bytes lie inside the tag
            kind, size, start = first & 0xFFFF, first >> 16, self._at + 4
        stop = start + size
        if stop > len(self._content) or (first >> 16 and size > 4):
            raise ValueError("an element reaches beyond its end")
        self._at = start + 4 if first >> 16 else stop if kind == _COMPRESSED else start + -(-size // 8) * 8
        return kind, self._content[start:stop]

    def numbers(self) -> list[float]:
        """Return the next element as numbers."""
        kind, data = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers belong")
        found: list[float] = np.frombuffer(data, self._order + _NUMBERS[kind]).tolist()
        return found

    def text(self) -> str:
        """Return the next element as text."""
        kind, data = self.next()
        if kind not in _TEXTS:
            raise ValueError(f"an element of type {kind} where text belongs")
        wide = kind in (4, 17, 18)
        return data.decode(_TEXTS[kind] + {"<": "-le", ">": "-be"}[self._order] if wide else _TEXTS[kind])

    def _words(self, at: int) -> int:
        word = self._content[at : at + 4]
        if len(word) < 4:
            raise ValueError("it is cut short")
        return int.from_bytes(word, "little" if self._order == "<" else "big")


def _matrix(data: bytes, order: str, *, wanted: str | None = None, depth: int = 0) -> Value | None:
    """Return the value of a matrix; None where it is not the `wanted` one."""
    if not data:
        return []
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    parts = _Parts(data, order)
    sort = int(parts.numbers()[0]) & 0xFF
    sides = [int(side) for side in parts.numbers()]
    if wanted is not None and parts.text() != wanted:
        return None
    if wanted is None:
        parts.next()  # a name, which is empty
    count = math.prod(sides)
    if min(sides, default=0) < 0 or count > len(data):
        raise ValueError(f"{sides} elements are more than there are")
    if sort == _CHARACTERS:
        return parts.text()
    if sort == _CELL:
        return [_below(parts, order, depth) for _ in range(count)]
    if sort == _STRUCTURE:
        names = _fields(parts)
        return [{name: _below(parts, order, depth) for name in names} for _ in range(count)]
    numbers = parts.numbers()
    return numbers[0] if len(numbers) == 1 else numbers


def _below(parts: _Parts, order: str, depth: int) -> Value:
    kind, data = parts.next()
    found = _matrix(data, order, depth=depth + 1) if kind == _MATRIX else None
    if found is None:
        raise ValueError(f"an element of type {kind} where a matrix belongs")
    return found


def _fields(parts: _Parts) -> list[str]:
    length, names = int(parts.numbers()[0]), parts.text()
    if not 1 <= length <= 64:
        raise ValueError(f"names of fields have {length} characters")
    return [names[at : at + length].split("\0")[0] for at in range(0, len(names), length)]
