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

MAX_BYTES = 1 << 24  # of a file, and of what it unpacks to: a list of 16,185 pictures with seven facts on each has 7 MB
MAX_VALUES = 1 << 20  # numbers, cells, elements and fields, of 30 to 300 bytes each as Python has them; that list: 0.3
_MAX_DEPTH = 8  # of cells and structures inside each other
_MAX_SIDES = 32  # of a matrix
_HEADER = 128  # bytes
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCTURE, _CHARACTERS = 1, 2, 4  # classes of a matrix; 6 to 15 are numbers


def read(path: Path, name: str, hint: str) -> Value:
    """Return the variable `name` of a file. Raises: DataError when it is damaged, of another version, or has none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is too large for a list")
        return _variable(path.read_bytes(), name)
    except (OSError, ValueError, ArithmeticError, LookupError, zlib.error) as error:
        raise DataError(f"{path}: not a readable MATLAB file with `{name}`: {error}", hint=hint) from error


def _variable(content: bytes, name: str) -> Value:
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is not of version 5")
    parts, room, budget = _Parts(content, order, start=_HEADER), MAX_BYTES, _Budget(MAX_VALUES)
    while not parts.is_over:
        kind, data = parts.next()
        if kind == _COMPRESSED:
            whole = _unpacked(data, room)
            room -= len(whole)
            kind, data = _Parts(whole, order).next()
        if kind == _MATRIX and (found := _matrix(data, order, budget, wanted=name)) is not None:
            return found
    raise ValueError("there is no such variable")


def _unpacked(data: bytes, room: int) -> bytes:
    engine = zlib.decompressobj()
    whole = engine.decompress(data, max(1, room))  # 0: as much as there is
    if engine.unconsumed_tail or not engine.eof:
        raise ValueError("what is compressed is cut short, or too large")
    return whole


class _Budget:
    """How many values may still be made: some bytes of a file, packed, say that there are millions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int) -> None:
        """Take a number of values. Raises: ValueError where so many are not left."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")


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

    def numbers(self, most: int) -> list[float]:
        """Return the next element as numbers. Raises: ValueError where it has more than `most`."""
        kind, data = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers belong")
        values = np.frombuffer(data, self._order + _NUMBERS[kind])
        if len(values) > most:
            raise ValueError(f"{len(values)} numbers where {most} may be")
        found: list[float] = values.tolist()
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


def _matrix(data: bytes, order: str, budget: _Budget, *, wanted: str | None = None, depth: int = 0) -> Value | None:
    """Return the value of a matrix; None where it is not the `wanted` one."""
    if not data:
        return []
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    parts = _Parts(data, order)
    sort = int(parts.numbers(2)[0]) & 0xFF
    sides = [int(side) for side in parts.numbers(_MAX_SIDES)]
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
        budget.take(count)
        return [_below(parts, order, budget, depth) for _ in range(count)]
    if sort == _STRUCTURE:
        names = _fields(parts, budget)
        budget.take(count * (1 + len(names)))
        return [{name: _below(parts, order, budget, depth) for name in names} for _ in range(count)]
    numbers = parts.numbers(budget.left)
    budget.take(len(numbers))
    return numbers[0] if len(numbers) == 1 else numbers


def _below(parts: _Parts, order: str, budget: _Budget, depth: int) -> Value:
    kind, data = parts.next()
    found = _matrix(data, order, budget, depth=depth + 1) if kind == _MATRIX else None
    if found is None:
        raise ValueError(f"an element of type {kind} where a matrix belongs")
    return found


def _fields(parts: _Parts, budget: _Budget) -> list[str]:
    length, text = int(parts.numbers(1)[0]), parts.text()
    if not 1 <= length <= 64:
        raise ValueError(f"names of fields have {length} characters")
    budget.take(-(-len(text) // length))
    names = [text[at : at + length].split("\0")[0] for at in range(0, len(text), length)]
    if not names or not all(names):
        raise ValueError("a structure whose fields have no names")
    return names
