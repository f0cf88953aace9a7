"""A `Trunk` becomes a file that another project loads."""

from __future__ import annotations

import copyreg
import pickle  # detectron2 reads pickles; this only writes one
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file

from leoclr import checkpoint
from leoclr.formats.layouts import FormatError, Trunk

Format = Literal["torchvision", "timm", "detectron2", "safetensors"]

FORMATS: dict[Format, tuple[str, str]] = {
    "torchvision": (".pth", "torchvision.models.{0}().load_state_dict(torch.load(FILE), strict=False); `fc` is yours"),
    "timm": (".safetensors", "timm.create_model('{0}', num_classes=0, checkpoint_path=FILE)"),
    "detectron2": (
        ".pkl",
        "MODEL.WEIGHTS FILE, and as MoCo's: STRIDE_IN_1X1 False, FORMAT RGB, ImageNet's PIXEL_MEAN and PIXEL_STD",
    ),
    "safetensors": (".safetensors", "leoclr.formats.read(FILE).build()"),
}
"""Suffix by format, and how its project loads the file; {0} is the backbone."""


def write(path: Path, trunk: Trunk, form: Format) -> None:
    """Write `trunk` to `path` for the project that `form` names.

    Raises: FormatError when that project has no such network.
    """
    plain = trunk.stem == "imagenet" and (trunk.width == 64 or form == "detectron2")  # its RES2_OUT_CHANNELS is free
    if form != "safetensors" and not plain:
        fact = f"{form} has no {trunk.backbone} of width {trunk.width} with the {trunk.stem} stem"
        raise FormatError(fact, hint="the format safetensors keeps any backbone")
    writers: dict[Format, Callable[[Path, Trunk], None]] = {
        "torchvision": _write_torchvision,
        "timm": _write_timm,
        "detectron2": _write_detectron2,
        "safetensors": _write_safetensors,
    }
    writers[form](path, trunk)


def detectron2_name(key: str) -> str:
    """Return what detectron2 calls the weight that torchvision calls `key`.

    Source: facebookresearch/moco, detection/convert-pretrain-to-detectron2.py; detectron2,
    tools/convert-torchvision-to-d2.py. Basic blocks (ResNet-18 and 34) have the same names less conv3.

    >>> detectron2_name("bn1.weight"), detectron2_name("layer1.0.downsample.1.bias")
    ('stem.conv1.norm.weight', 'res2.0.shortcut.norm.bias')
    """
    name = key if key.startswith("layer") else f"stem.{key}"
    for stage in (1, 2, 3, 4):
        name = name.replace(f"layer{stage}.", f"res{stage + 1}.")
    for convolution in (1, 2, 3):
        name = name.replace(f"bn{convolution}.", f"conv{convolution}.norm.")
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def _write_torchvision(path: Path, trunk: Trunk) -> None:
    torch.save(dict(trunk.weights), path)


def _write_timm(path: Path, trunk: Trunk) -> None:
    # timm 1.0, models/_helpers.py, load_state_dict: the suffix says how to read; its ResNets have torchvision's names.
    save_file(dict(trunk.weights), path, metadata={"format": "pt"})


def _write_detectron2(path: Path, trunk: Trunk) -> None:
    # detectron2/checkpoint/detection_checkpoint.py, _load_file: a .pkl with "model" and "__author__" is its zoo's
    # format; "matching_heuristics" lets a name match the end of a longer one (`res5` of a C4 head is in roi_heads).
    weights = {detectron2_name(key): weight.numpy() for key, weight in trunk.weights.items()}
    content = {"model": weights, "__author__": "leoclr-ops", "matching_heuristics": True}
    with path.open("wb") as file:
        _PortablePickler(file, protocol=4).dump(content)


def _plain_array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return np.ndarray, (array.shape, array.dtype, bytearray(array.tobytes()))


class _PortablePickler(pickle.Pickler):
    """Names what every NumPy has: as NumPy 2 pickles an array it asks for numpy._core, which 1.25 has not."""

    dispatch_table = copyreg.dispatch_table | {np.ndarray: _plain_array}


def _write_safetensors(path: Path, trunk: Trunk) -> None:
    checkpoint.save_backbone(path, trunk.build(), name=trunk.backbone, width=trunk.width, stem=trunk.stem)
