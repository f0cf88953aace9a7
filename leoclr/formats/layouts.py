"""Where public checkpoints keep their trunk, and under which names.

Each project saves the same ResNet inside another model, so a file is recognized by its keys alone: the prefix of the
trunk, and a key that only this project has beside it. What the names become is torchvision's, which are our
`Backbone`'s. A trunk fits whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leoclr import backbones
from leoclr.backbones import BACKBONES, Backbone, Stem

MAX_WIDTH = 4096  # channels of the first stage; the widest ResNets that were published have 320 (SwAV's w5)
_NAMED = 8  # keys of each sort that a message names
_SHOWN = 80  # characters of such a key
_COUNTER = ".num_batches_tracked"


class FormatError(ValueError):
    """A file is not what it should be, or cannot be written so; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """The weights of a backbone and what it takes to build it again."""

    layout: str  # whose file it was: name of one of LAYOUTS, or "leoclr"
    backbone: str  # a key of BACKBONES
    width: int  # channels of its first stage
    stem: Stem
    weights: Mapping[str, Tensor]  # as Backbone.state_dict() names them, float32 (counters int64), on the CPU
    left_out: tuple[str, ...] = ()  # modules beside the trunk that were not taken, such as ("fc",)

    def build(self) -> Backbone:
        """Return the backbone with these weights."""
        trunk = backbones.build(self.backbone, width=self.width, stem=self.stem)
        trunk.load_state_dict(dict(self.weights))
        return trunk


@dataclass(frozen=True, slots=True)
class Layout:
    """How one project names things, once `module.` of DistributedDataParallel is gone."""

    name: str
    prefix: str  # of the trunk's keys
    mark: str = ""  # a key beside the trunk begins so; "" where the prefix says enough


LAYOUTS = (  # the first that fits; each was read in the code that is named
    Layout("moco", "encoder_q."),  # facebookresearch/moco, main_lincls.py; maple-research-lab/CLSA, lincls.py
    Layout("moco_v3", "base_encoder."),  # facebookresearch/moco-v3, main_lincls.py
    Layout("simsiam", "encoder.", "predictor."),  # facebookresearch/simsiam, main_lincls.py
    Layout("dino", "backbone.", "head."),  # facebookresearch/dino, utils.py, MultiCropWrapper
    Layout("barlowtwins", "backbone.", "bn.running_mean"),  # facebookresearch/barlowtwins, main.py, checkpoint.pth
    Layout("solo_learn", "backbone.", "classifier."),  # vturrisi/solo-learn, solo/methods/base.py
    Layout("vicreg", "backbone.", "projector."),  # facebookresearch/vicreg, main_vicreg.py, model.pth
    Layout("lightly", "backbone."),  # lightly-ai/lightly, examples/pytorch and benchmarks
    Layout("swav", "", "prototypes."),  # facebookresearch/swav, src/resnet50.py
    Layout("torchvision", ""),  # also timm, and resnet50.pth of Barlow Twins and VICReg
)

_ENVELOPES = (  # what a checkpoint calls its weights
    "teacher",  # DINO: its evaluations take the teacher, eval_linear.py, checkpoint_key
    "state_dict",  # MoCo, CLSA, SimSiam, SwAV, Lightning
    "model",  # Barlow Twins, VICReg
)
_HEADS = ("fc", "linear", "head", "projection_head", "prototypes", "classifier")  # inside the trunk's module

# nn.Sequential(*list(resnet.children())[:-1]) has numbers for names. torchvision's children 2, 3, 8 are ReLU, max-pool
# and mean; lightly's own ResNet for small images (lightly/models/resnet.py) has none of these before its stages.
_TORCHVISION_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_LIGHTLY_CHILDREN = {"0": "conv1", "1": "bn1", "2": "layer1", "3": "layer2", "4": "layer3", "5": "layer4"}


def recognize(tree: Mapping[Any, Any]) -> Trunk:
    """Return the trunk in what a checkpoint file holds.

    A 3x3 first convolution is taken for stride 1 without pooling ("cifar"), as public code has it: weights do not tell.
    Batch norm's counters may be missing, as in files from before torch 0.4.1; no forward pass reads them.

    Raises: FormatError that names the keys which differ.
    """
    found = _weights(tree)
    layout = _layout(found)
    below = {key.removeprefix(layout.prefix): w for key, w in found.items() if key.startswith(layout.prefix)}
    named = _named(below)
    heads = {part for key in named if (part := key.partition(".")[0]) in _HEADS}
    kept = {key: weight for key, weight in named.items() if key.partition(".")[0] not in _HEADS}
    name, width, stem = _architecture(kept, layout)
    beside = {key.partition(".")[0] for key in found if not key.startswith(layout.prefix)}
    weights = fitted(kept, backbone=name, width=width, stem=stem)
    left_out = tuple(sorted(heads | beside))
    return Trunk(layout=layout.name, backbone=name, width=width, stem=stem, weights=weights, left_out=left_out)


def fitted(weights: Mapping[str, Tensor], *, backbone: str, width: int, stem: Stem) -> dict[str, Tensor]:
    """Return `weights` as the state of this backbone, in its order, as float32.

    Raises: FormatError that names the keys which differ, or the first one that is not finite.
    """
    if not 1 <= width <= MAX_WIDTH:
        raise FormatError(f"no backbone of ours is {width} channels wide")
    with torch.device("meta"):  # names and shapes only
        expected = backbones.build(backbone, width=width, stem=stem).state_dict()
    counters = {key: torch.zeros((), dtype=torch.long) for key in expected if key.endswith(_COUNTER)}
    given = {**counters, **weights}
    if differences := _differences(expected, given):
        raise FormatError(f"it is not a {backbone} of width {width} with the {stem} stem: " + "; ".join(differences))
    for key, wanted in expected.items():
        _require_plain(key, given[key], wanted)
        if not given[key].isfinite().all():
            raise FormatError(f"{key} holds values that are not finite")
    return {key: given[key].to(wanted.dtype).contiguous() for key, wanted in expected.items()}


def _require_plain(key: str, weight: Tensor, wanted: Tensor) -> None:
    """Raise FormatError unless `weight` is numbers in memory, as many as its shape says, of the sort that is wanted."""
    if weight.layout != torch.strided or weight.is_quantized or weight.device.type != "cpu":
        raise FormatError(f"{key} is sparse, quantized or without numbers", hint="save it dense, as float32")
    if weight.is_complex() or weight.is_floating_point() != wanted.is_floating_point():
        raise FormatError(f"{key} holds {weight.dtype}, not numbers such as {wanted.dtype}")
    if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
        raise FormatError(f"{key} repeats few numbers to look like {list(weight.shape)}", hint="save it contiguous")


def _weights(tree: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors by name, out of their envelope and without `module.`. Raises: FormatError."""
    inner = next((tree[key] for key in _ENVELOPES if isinstance(tree.get(key), Mapping)), tree)
    if len(inner) == 1 and isinstance(only := next(iter(inner.values())), Mapping):
        inner = only  # lightly's tutorials: {"resnet18_parameters": ...}
    found = {str(key).removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not found:
        raise FormatError(f"it holds no weights: {_list(map(str, inner)) or 'nothing'}")
    return found


def _layout(found: Mapping[str, Tensor]) -> Layout:
    for layout in LAYOUTS:
        trunk = any(layout.prefix + first in found for first in ("conv1.weight", "0.weight"))
        if trunk and (not layout.mark or any(key.startswith(layout.mark) for key in found)):
            return layout
    known = ", ".join(f"`{layout.prefix}conv1.weight`" for layout in LAYOUTS if not layout.mark)
    raise FormatError(f"no ResNet is in it: its keys are {_list(found)}", hint=f"a key should be one of {known}")


def _named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under torchvision's names."""
    children = _LIGHTLY_CHILDREN if "2.0.conv1.weight" in weights else _TORCHVISION_CHILDREN
    numbered = "0.weight" in weights
    named = {}
    for key, weight in weights.items():
        first, dot, rest = key.partition(".")
        name = children.get(first, first) + dot + rest if numbered else key
        named[name.replace(".shortcut.", ".downsample.")] = weight  # lightly/models/resnet.py
    return named


def _architecture(weights: Mapping[str, Tensor], layout: Layout) -> tuple[str, int, Stem]:
    """Return name, width and stem of the backbone that is nearest. Raises: FormatError where no stem is."""
    first = weights["conv1.weight"]
    if first.ndim != 4 or first.shape[2] not in (3, 7):
        raise FormatError(f"its first convolution has the shape {list(first.shape)}", hint="ResNets have 7x7 or 3x3")
    if layout.name == "solo_learn" and first.shape[2] == 3:  # solo/methods/base.py: Conv2d(3, 64, 3, padding=2)
        raise FormatError("solo-learn pads its 3x3 stem by 2 pixels: none of our stems computes the same")
    block = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    depths = [len({key.split(".")[1] for key in weights if key.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
    able = {name: depth for name, (kind, depth) in BACKBONES.items() if kind == block}
    name = min(able, key=lambda each: sum(abs(a - b) for a, b in zip(able[each], depths, strict=True)))
    return name, first.shape[0], "imagenet" if first.shape[2] == 7 else "cifar"


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} is {list(given[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    sorts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [f"{len(keys)} {sort} ({_list(keys)})" for sort, keys in sorts if keys]


def _list(keys: Iterable[str]) -> str:
    """Return the first keys, and how many more there are."""
    named = [ascii(key)[1:-1][:_SHOWN] for key in keys]  # a name in a file may hold anything
    return ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
