"""SciPy writes what is read here, and reads it too."""

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from leoclr.data import matlab
from leoclr.data.contract import DataError

ROWS = np.array([[(1, "a.jpg"), (196, "b.jpg")]], dtype=[("class", object), ("fname", object)])
VARIABLES = {
    "numbers": np.array([[1.5, 2.0], [3.0, 4.0]]),
    "small": np.uint8(7),
    "negative": np.array([-3, 70_000], np.int32),
    "text": "na\u00efve",
    "cells": np.array(["x", "long enough for a tag of its own", 3], object),
    "rows": ROWS,
    "nothing": np.zeros((0, 0)),
}


@pytest.mark.parametrize("packed", [False, True])
def test_it_reads_what_scipy_writes(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, VARIABLES, do_compression=packed)
    found = {name: matlab.read(path, name, "") for name in VARIABLES}
    theirs = scipy.io.loadmat(path, squeeze_me=True)
    assert found["numbers"] == theirs["numbers"].T.ravel().tolist() == [1.5, 3.0, 2.0, 4.0]
    assert found["small"] == int(theirs["small"]) == 7
    assert found["negative"] == theirs["negative"].tolist() == [-3, 70_000]
    assert found["text"] == str(theirs["text"]) == "na\u00efve"
    assert found["cells"] == [str(theirs["cells"][0]), str(theirs["cells"][1]), int(theirs["cells"][2])]
    assert found["rows"] == [{"class": int(row["class"]), "fname": str(row["fname"])} for row in theirs["rows"]]
    assert found["nothing"] == []


@pytest.mark.parametrize("packed", [False, True])
def test_any_changed_byte_is_another_value_or_a_refusal(tmp_path: Path, packed: bool) -> None:
    """SciPy's own reader ends the process on some of these."""
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"rows": ROWS}, do_compression=packed)
    whole, said = path.read_bytes(), []
    for at in range(124, len(whole)):
        for byte in (0, 1, 0x7F, 0xFF):
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            try:
                matlab.read(path, "rows", "")
            except DataError as error:
                said.append(str(error))
    assert len(said) > len(whole)
    assert all("x.mat: not a readable MATLAB file with `rows`" in each for each in said)


def test_what_unpacks_to_more_than_a_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"zeros": np.zeros(100_000)}, do_compression=True)
    assert len(matlab.read(path, "zeros", "")) == 100_000
    monkeypatch.setattr(matlab, "MAX_BYTES", 10_000)
    with pytest.raises(DataError, match="too large"):
        matlab.read(path, "zeros", "")


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(b"\x89HDF\r\n" + b"\0" * 200)
    with pytest.raises(DataError, match="it is not of version 5"):
        matlab.read(path, "x", "")


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(sort: int, sides: bytes, *rest: bytes, kind: int = 5, name: bytes = b"x") -> bytes:
    """A matrix whose sides are numbers of `kind`."""
    head = element(6, struct.pack("<II", sort, 0)) + element(kind, sides) + element(1, name)
    return element(14, head + b"".join(rest))


def put(path: Path, *elements: bytes) -> Path:
    """Write elements into a file, each compressed."""
    packed = [zlib.compress(each, 9) for each in elements]
    header = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + b"".join(struct.pack("<II", 15, len(each)) + each for each in packed))
    return path


ONE, MANY = struct.pack("<ii", 1, 1), struct.pack("<ii", 1, 1_500_000)
NAMES = element(5, struct.pack("<i", 4))
HOSTILE = {
    "a side of inf": (matrix(6, struct.pack("<dd", 1.0, np.inf), element(9, b"\0" * 8), kind=9),),
    "a side of nan": (matrix(6, struct.pack("<dd", 1.0, np.nan), element(9, b"\0" * 8), kind=9),),
    "sides without end": (matrix(6, struct.pack("<i", 2**31 - 1) * 1_000_000, element(9, b"\0" * 8)),),
    "bytes that become numbers": (matrix(9, struct.pack("<ii", 1, 15_000_000), element(2, b"\x07" * 15_000_000)),),
    "cells": (matrix(1, MANY, element(14, b"") * 1_500_000),),
    "records": (matrix(2, MANY, NAMES, element(1, b"abc\0"), element(14, b"") * 1_500_000),),
    "records without fields": (matrix(2, MANY, NAMES, element(1, b""), b"\0" * 1_500_000),),
    "a field without a name": (matrix(2, ONE, NAMES, element(1, b"abc\0\0\0\0\0"), element(14, b"") * 2),),
    "fields": (matrix(2, ONE, element(5, struct.pack("<i", 1)), element(1, b"a" * 15_000_000)),),
    "many variables": (matrix(6, ONE, element(9, b"\0" * 12_000_000), name=b"y"),) * 3,
    "no flags": (element(14, element(6, b"")),),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_says_much_is_refused_within_little_memory(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "x.mat", *HOSTILE[name])
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x\.mat: not a readable MATLAB file with `x`"):
            matlab.read(path, "x", "")
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()


def test_a_file_that_is_large_itself_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.mat").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(DataError, match="too large"):
        matlab.read(tmp_path / "x.mat", "x", "")


def rows(count: int, **fields: Any) -> np.ndarray:
    table = np.empty((1, count), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        for row in range(count):
            table[name][0, row] = value
    return table


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(  # cars_annos.mat of Stanford Cars
            rows(
                16_185, relative_im_path="car_ims/016185.jpg", **dict.fromkeys("abcd", 256), **{"class": 196, "test": 1}
            ),
            id="cars",
        ),
        pytest.param(  # meta.mat of ILSVRC 2012
            rows(
                1_860,
                ILSVRC2012_ID=1860.0,
                WNID="n02119789",
                words="kit fox, Vulpes macrotis",
                gloss="g" * 200,
                num_children=9.0,
                children=np.arange(9.0),
                wordnet_height=3.0,
                num_train_images=1300.0,
            ),
            id="imagenet",
        ),
        pytest.param(np.arange(8_189, dtype=np.uint16).reshape(1, -1), id="flowers"),  # imagelabels.mat, setid.mat
    ],
)
def test_lists_as_large_as_real_ones_are_read(value: np.ndarray, packed: bool, tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"x": value}, do_compression=packed)
    found = matlab.read(tmp_path / "x.mat", "x", "")
    assert isinstance(found, list) and len(found) == value.size
    if value.dtype.names:
        assert isinstance(found[-1], dict) and tuple(found[-1]) == value.dtype.names
    else:
        assert found == value.ravel().tolist()
