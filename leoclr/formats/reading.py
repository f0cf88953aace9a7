"""A checkpoint file becomes a `Trunk`. Nothing in the file is executed: a pickle that asks for more is refused."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import pickle  # for the name of an error; nothing is unpickled here
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch.serialization import safe_globals

from leoclr.backbones import Stem
from leoclr.formats.layouts import FormatError, Trunk, fitted, recognize

MAX_STEPS = 200_000  # of the pickle; a tensor takes 40, and training states have up to a few thousand tensors
_PICKLES = 4  # of torch.save before 1.6: magic number, version, machine, and the object (torch/serialization.py)

# What torch.load raises for bytes that are no checkpoint, or a damaged one.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    struct.error, zipfile.BadZipFile, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip


def read(path: Path) -> Trunk:
    """Return the trunk in a checkpoint of one of `layouts.LAYOUTS`, written by torch.save or as safetensors.

    Raises: FormatError when it cannot be read without executing code, or holds no ResNet of ours.
    """
    return _read_safetensors(path) if path.suffix == ".safetensors" else recognize(_load(path))


def _read_safetensors(path: Path) -> Trunk:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"it cannot be read as safetensors: {error}") from error
    if "leoclr_format" not in header:
        return recognize(weights)
    try:
        facts = {"backbone": header["backbone"], "width": int(header["width"]), "stem": cast(Stem, header["stem"])}
        return Trunk(layout="leoclr", weights=fitted(weights, **facts), **facts)
    except (KeyError, ValueError) as error:
        raise error if isinstance(error, FormatError) else FormatError(f"its header is damaged: {error}") from error


def _load(path: Path) -> Mapping[Any, Any]:
    """Return what torch.save wrote: tensors, numbers, text and lists and dicts of them. Raises: FormatError."""
    _refuse_large_pickle(path)
    try:
        # DINO and many training scripts save their command line beside the weights. A Namespace is a bag of values: to
        # rebuild one runs no code of the file's choosing. No other class is allowed.
        with safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an unusual pickle protocol: it is read or refused
            tree = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except _UNREADABLE as error:
        raise _refusal(error) from error
    if not isinstance(tree, Mapping):
        raise FormatError(f"it holds a {type(tree).__name__}, not a state dict")
    return tree


def _refuse_large_pickle(path: Path) -> None:
    """Raise FormatError where the pickle beside the weights is larger than any honest one: it can fill the memory.

    Its steps are counted, and none is taken. In a zip file it is one entry, in older files the first bytes.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                few = all(_is_short(stream) for _ in range(_PICKLES))
        else:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                grows = sum(entry.file_size for entry in entries) > path.stat().st_size  # torch.save compresses nothing
                if grows or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                    raise FormatError("it would unpack to more than it is: a bomb, or no checkpoint")
            with path.open("rb") as stream:
                pickles = [_stored(stream, entry) for entry in entries if entry.filename.endswith("data.pkl")]
            few = all(_is_short(io.BytesIO(each)) for each in pickles)
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        LookupError,
        RuntimeError,
        struct.error,
    ) as error:
        if isinstance(error, FormatError):
            raise
        return  # damaged: torch.load says how
    if not few:
        raise FormatError(f"its pickle takes more than {MAX_STEPS:,} steps: no weights need as many")


def _stored(stream: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """Return an entry as torch.load reads it: it asks for no checksum, so that a wrong one must not hide a bomb."""
    stream.seek(entry.header_offset + 26)
    name, extra = struct.unpack("<HH", stream.read(4))
    stream.seek(name + extra, os.SEEK_CUR)
    return stream.read(entry.file_size)


def _is_short(stream: BinaryIO) -> bool:
    """Return whether the pickle that begins here ends within `MAX_STEPS`; go behind it."""
    steps = sum(1 for _ in itertools.islice(pickletools.genops(stream), MAX_STEPS + 1))
    return steps <= MAX_STEPS


def _refusal(error: Exception) -> FormatError:
    """Return what to tell of a file that torch.load does not take."""
    hint = "where you trust its author: torch.load(FILE, weights_only=False), then torch.save its state dict alone"
    if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return FormatError(f"it asks to run `{asked[1]}`, and weights need no code", hint=hint)
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        return FormatError("it holds more than weights, which could run code", hint=hint)
    return FormatError(f"it cannot be read: {str(error).partition(chr(10))[0] or type(error).__name__}")
