"""CIFAR as published, for `cifar10` and `cifar100`: the Python version (pickles) or the binary one, whichever is there.

A pickle may run any code when it is read. These are read by an unpickler that knows arrays, dicts, lists, strings and
numbers and refuses all else. Source: Krizhevsky 2009; the formats: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leoclr.data import layout
from leoclr.data.contract import DataError, Split, Stack
from leoclr.data.digest_cache import digest_tree

SIDE = 32  # pixels
_PIXELS = 3 * SIDE * SIDE
_ARRAY = np.empty(0).__reduce__()[0]  # what rebuilds a pickled array, under whichever name this numpy has it
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # bytes, in a pickle that Python 3 wrote under Python 2's protocol
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How one of the two sets is stored."""

    folder: str  # of the Python version, as its archive unpacks
    binary: str  # of the binary version
    train: tuple[str, ...]  # files; the binary ones end in .bin
    test: tuple[str, ...]
    labels: str  # key of the classes in a pickle
    names: tuple[str, str]  # file and key of the classes' names in the Python version
    binary_names: str  # file of the classes' names in the binary version
    label_bytes: int  # before the pixels of a binary record; the last of them is the class
    classes: int


def digest(root: Path, form: Format, rule: str) -> str:
    """Return the sha256 (hex) of the files' bytes and of the split rule. Raises: DataError when one is missing."""
    folder, suffix = _find(root, form)
    names = form.binary_names if suffix else form.names[0]
    return digest_tree(
        folder, rule, files=[folder / f"{name}{suffix}" for name in form.train + form.test] + [folder / names]
    )


def read(root: Path, form: Format) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return the classes' names and the splits `train` and `test`, in the order of the files.

    Raises: DataError naming the file that is missing, damaged, or asks to run code.
    """
    folder, suffix = _find(root, form)
    if suffix:
        names = tuple(layout.read_lines(folder / form.binary_names, _hint(form)))
    else:
        path = folder / form.names[0]
        names = tuple(map(str, _take(_unpickle(path, form), form.names[1], path)))
    if len(names) != form.classes:
        raise DataError(f"{folder}: names of {len(names)} classes, not {form.classes}", hint=_hint(form))
    splits = {}
    for split, files in (("train", form.train), ("test", form.test)):
        parts = [_read_batch(folder / f"{name}{suffix}", form, binary=bool(suffix)) for name in files]
        images_NP, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        images_NHWC = np.ascontiguousarray(images_NP.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        splits[split] = Split(Stack(images_NHWC), labels)
    return names, splits


def _find(root: Path, form: Format) -> tuple[Path, str]:
    """Return the folder and what its files end in: nothing in the Python version, `.bin` in the binary one."""
    for below, suffix in ((form.folder, ""), (form.binary, ".bin")):
        for folder in (root, root / below):
            if (folder / f"{form.train[0]}{suffix}").is_file():
                return folder.resolve(), suffix
    raise DataError(f"{root}: neither {form.folder}/{form.train[0]} nor {form.binary}/{form.train[0]}.bin", _hint(form))


def _read_batch(path: Path, form: Format, *, binary: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pixels [N, 3072], channel by channel and row by row, and labels [N] of one file."""
    images_NP, labels = _read_binary(path, form) if binary else _read_pickle(path, form)
    if len(labels) != len(images_NP) or not len(labels) or not 0 <= labels.min() <= labels.max() < form.classes:
        raise DataError(f"{path}: not one label from 0 to {form.classes - 1} for each image", hint=_hint(form))
    return images_NP, labels


def _read_binary(path: Path, form: Format) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = form.label_bytes + _PIXELS
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint=_hint(form)) from error
    if len(content) % record:
        raise DataError(f"{path}: {len(content)} bytes, no whole number of records of {record}", hint=_hint(form))
    records = content.reshape(-1, record)
    return records[:, form.label_bytes :], records[:, form.label_bytes - 1].astype(np.int64)


def _read_pickle(path: Path, form: Format) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _unpickle(path, form)
    images, labels = _take(batch, "data", path), _take(batch, form.labels, path)
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == (_PIXELS,)):
        raise DataError(f"{path}: its `data` are not rows of {_PIXELS} bytes", hint=_hint(form))
    if not (isinstance(labels, list) and all(isinstance(label, int) for label in labels)):
        raise DataError(f"{path}: its `{form.labels}` are not a list of numbers", hint=_hint(form))
    return images, np.array(labels, np.int64)


def _take(batch: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in batch:
        raise DataError(f"{path}: it has no `{key}`", hint="fetch the archive anew")
    return batch[key]


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds arrays and what plain data is made of."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file does") from None


def _unpickle(path: Path, form: Format) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="latin1").load()  # latin1: Python 2 wrote them
    # Whatever a damaged stream makes an unpickler stumble over.
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{path}: not a CIFAR file: {error}", hint=_hint(form)) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a CIFAR file: it holds no dict", hint=_hint(form))
    return content


def _hint(form: Format) -> str:
    return f"expected the folder {form.folder} or {form.binary} of https://www.cs.toronto.edu/~kriz/cifar.html"
