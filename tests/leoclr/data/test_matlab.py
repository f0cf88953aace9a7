"""SciPy writes what is read here, and reads it too."""

from pathlib import Path

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
