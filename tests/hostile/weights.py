"""Checkpoint files that go wrong: cut, flipped, forged, with code in them, with numbers that are none."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from leoclr import backbones

CODES = {  # what a pickle would call, and with what
    "os.system": (os.system, ("touch executed",)),
    "eval": (eval, ("open('executed', 'w')",)),
    "builtins.exec": (exec, ("open('executed', 'w')",)),
    "open": (open, ("executed", "w")),
    "getattr": (getattr, ("x", "upper")),
    "torch.load": (torch.load, ("executed",)),
    "os.remove": (os.remove, ("p.pt",)),
    "Path.write_text": (Path.write_text, (Path("executed"), "x")),
}


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, name: str) -> None:
        self._call = CODES[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


@functools.cache
def state() -> dict[str, torch.Tensor]:
    """Return the state of a narrow ResNet-18."""
    torch.manual_seed(0)
    return dict(backbones.build("resnet18", width=2, stem="imagenet").state_dict())


def saved(tree: object, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(tree, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def safe(header: dict[str, str] | None = None, **changed: torch.Tensor) -> bytes:
    return save({**state(), **changed}, metadata=header)


OWN = {"format": "pt", "leoclr_format": "1", "backbone": "resnet18", "width": "2", "stem": "imagenet"}


def trees() -> dict[str, object]:
    """Return what a checkpoint may hold that is no ResNet of ours, or one with something wrong in it."""
    good, first = state(), state()["conv1.weight"]
    huge = torch.zeros(1).as_strided((1 << 40, 3, 7, 7), (0, 0, 0, 0))
    wide = {name: _wide(each) for name, each in good.items()}
    return {
        "good": good,
        "in an envelope": {"state_dict": {f"module.{key}": value for key, value in good.items()}, "epoch": 1},
        "not a number": {**good, "conv1.weight": torch.full_like(first, float("nan"))},
        "infinite": {**good, "layer1.0.bn1.bias": torch.full_like(good["layer1.0.bn1.bias"], float("inf"))},
        "complex": {**good, "conv1.weight": first.to(torch.complex64)},
        "whole numbers": {key: value.to(torch.int8) for key, value in good.items()},
        "sparse": {**good, "conv1.weight": first.to_sparse()},
        "quantized": {**good, "conv1.weight": torch.quantize_per_tensor(first, 0.1, 0, torch.qint8)},
        "on no device": {**good, "conv1.weight": first.to("meta")},
        "no numbers": {**good, "conv1.weight": torch.empty(0, 3, 7, 7)},
        "no axes": {**good, "conv1.weight": torch.tensor(1.0)},
        "a terabyte of one number": {**good, "conv1.weight": huge},
        "all of it a terabyte": wide,
        "another network": {"features.0.weight": torch.zeros(64, 3, 11, 11)},
        "a transformer": {"patch_embed.proj.weight": torch.zeros(8, 3, 16, 16), "cls_token": torch.zeros(1, 1, 8)},
        "half missing": dict(list(good.items())[::2]),
        "shapes of a wider one": {**good, "layer1.0.conv1.weight": torch.zeros(4, 4, 3, 3)},
        "a list": [good],
        "a number": 3,
        "text": "x" * 1000,
        "nothing": {},
        "itself": _round(),
        "deep": functools.reduce(lambda below, _: {"model": below}, range(200), good),
        "keys that are no text": {1: first, (2, 3): first, None: first},
        "a key of a megabyte": {"conv1.weight" + "x" * 1_000_000: first},
        "a key with control characters": {"\x1b[2J": first},
        **{f"code: {name}": {**good, "extra": Runs(name)} for name in CODES},
        "code in place of all": Runs("os.system"),
        "code as a key": {Runs("open"): 1},
    }


def _wide(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight with 2^16 times as many of each channel but the image's, all of them one number."""
    shape = [side << 16 if side > 1 and side not in (3, 7) else side for side in weight.shape]
    return torch.zeros(1, dtype=weight.dtype).as_strided(shape, [0] * len(shape))


def _round() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["model"] = loop
    return loop


@functools.cache
def fixed() -> dict[str, bytes]:
    """Return whole files by what is wrong in them; the suffix of the name says the format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives quantized tensors up; there are files of them
        made = trees()
    found = {f"{name}.pt": saved(tree) for name, tree in made.items()}
    found |= {f"{name}, before 1.6.pt": saved(tree, old=True) for name, tree in made.items() if _old(name)}
    found |= {
        "bare pickle.pt": pickle.dumps({"model": 1}),
        "pickle with code.pt": pickle.dumps(Runs("os.system")),
        "empty.pt": b"",
        "zip bomb.pt": _bomb(),
        "a pickle of marks.pt": _marks(3_000_000, old=False),
        "a pickle of marks with a wrong checksum.pt": _marks(3_000_000, old=False).replace(b"(N.", b"(0."),
        "a compressed pickle of marks.pt": _zip(
            {"archive/data.pkl": b"(" * 3_000_000, "x": bytes(3 << 20)}, packed=True
        ),
        "a pickle of marks, before 1.6.pt": _marks(3_000_000, old=True),
        "an int that is cut off.pt": _zip({"archive/data.pkl": b"\x80\x02J\x01", "archive/version": b"3"}),
        "zip that climbs.pt": _zip({"../../executed": b"x", "archive/data.pkl": b"\x80\x02}q\0."}),
        "own.safetensors": safe(OWN),
        "foreign.safetensors": safe(),
        "width that is none.safetensors": safe({**OWN, "width": "x"}),
        "width of a billion.safetensors": safe({**OWN, "width": "1000000000"}),
        "negative width.safetensors": safe({**OWN, "width": "-2"}),
        "no such stem.safetensors": safe({**OWN, "stem": "../x"}),
        "no such backbone.safetensors": safe({**OWN, "backbone": "os.system"}),
        "not a number.safetensors": safe(OWN, **{"bn1.bias": torch.full((2,), float("nan"))}),
        "empty.safetensors": b"",
        **{f"{name}.safetensors": header for name, header in _headers().items()},
    }
    return found


def _old(name: str) -> bool:
    return name in ("good", "itself", "not a number") or name.startswith("code")


def _zip(entries: dict[str, bytes], *, packed: bool = False) -> bytes:
    """Return a zip file; `packed`: the pickle is compressed, and the file as large as if it were not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            deflated = packed and name.endswith("data.pkl")
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    return buffer.getvalue()


def _bomb() -> bytes:
    """Return a checkpoint of half a megabyte whose pickle is one text of half a gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/version", b"3")
        with archive.open("archive/data.pkl", "w", force_zip64=True) as stream:
            stream.write(b"\x80\x02X" + struct.pack("<I", 1 << 29))
            for _ in range(512):
                stream.write(b"a" * (1 << 20))
            stream.write(b".")
    return buffer.getvalue()


def _marks(count: int, *, old: bool) -> bytes:
    """Return a checkpoint whose pickle opens `count` lists: each is a byte here and seventy in memory."""
    pickled = b"\x80\x02" + b"(" * count + b"N."
    if not old:
        return _zip({"archive/data.pkl": pickled, "archive/version": b"3"})
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})  # torch/serialization.py, _legacy_save
    return b"".join(pickle.dumps(each, protocol=2) for each in head) + pickled


def _headers() -> dict[str, bytes]:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {
        "header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
        "header of 2^64": b"\xff" * 16,
        "header that is no JSON": struct.pack("<Q", 4) + b"{{{{",
        "header nested deep": (lambda text: struct.pack("<Q", len(text)) + text)(b'{"a":' + b"[" * 50_000),
        "offsets outside": _json({"x": {**one, "data_offsets": [0, 1 << 40]}}),
        "offsets backwards": _json({"x": {**one, "data_offsets": [8, 0]}}),
        "offsets that overlap": _json({"x": one, "y": one}),
        "a shape that overflows": _json({"x": {**one, "shape": [1 << 40, 1 << 40]}}),
        "a type that is none": _json({"x": {**one, "dtype": "PICKLE"}}),
        "a name with control characters": _json({"\x1b[2J": one}),
    }


def _json(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return suffix and bytes of a checkpoint: one of `fixed`, or a whole one that was cut or flipped."""
    name = draw(st.sampled_from(sorted(fixed())))
    content = bytearray(fixed()[name])
    act = draw(st.sampled_from(("none", "cut", "flip", "head", "tail")))
    if not content or act == "none":
        return name.rpartition(".")[2], bytes(content)
    if act == "cut":
        return name.rpartition(".")[2], bytes(content[: draw(st.integers(0, len(content) - 1))])
    start, stop = {"flip": (0, len(content)), "head": (0, 200), "tail": (len(content) - 200, len(content))}[act]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(max(0, start), max(0, min(stop, len(content)) - 1)))
        content[at] = draw(st.integers(0, 255))
    return name.rpartition(".")[2], bytes(content)
