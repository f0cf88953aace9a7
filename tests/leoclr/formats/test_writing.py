"""What `write` writes is loaded by the project itself (torchvision, timm), or has its names and shapes (detectron2)."""

from __future__ import annotations

import functools
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from leoclr import backbones
from leoclr.formats import FormatError, Trunk, read, write


@functools.cache
def trunk(name: str, *, width: int = 64, stem: backbones.Stem = "imagenet") -> Trunk:
    torch.manual_seed(0)
    weights = backbones.build(name, width=width, stem=stem).state_dict()
    for key in weights:
        if key.endswith("running_mean"):
            weights[key] = torch.randn_like(weights[key])
    return Trunk(layout="leoclr", backbone=name, width=width, stem=stem, weights=weights)


def features(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = network.eval()(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    return out


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_loads_it(name: str, tmp_path: Path) -> None:
    mine = trunk(name)
    write(tmp_path / "out.pth", mine, "torchvision")
    with torch.device("meta"):  # to draw weights that are replaced takes seconds
        network: Any = getattr(torchvision.models, name)()
    weights = torch.load(tmp_path / "out.pth", weights_only=True)
    report = network.load_state_dict(weights, strict=False, assign=True)
    assert (report.missing_keys, report.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    network.fc = nn.Identity()
    torch.testing.assert_close(features(network), features(mine.build()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timm_loads_it(name: str, tmp_path: Path) -> None:
    mine = trunk(name)
    write(tmp_path / "out.safetensors", mine, "timm")
    network = timm.create_model(name, num_classes=0, checkpoint_path=str(tmp_path / "out.safetensors"))  # strict
    torch.testing.assert_close(features(network), features(mine.build()))


NORM = ("weight", "bias", "running_mean", "running_var")


def detectron2_shapes(depths: tuple[int, ...], *, bottleneck: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of detectron2's ResNet, by the rules of detectron2/modeling/backbone/resnet.py.

    BasicStem has conv1; a stage is called res2 .. res5 and its blocks 0, 1, ...; a block has conv1, conv2 (and conv3),
    and a shortcut where its input has other channels; each convolution holds its norm.
    """

    def convolution(name: str, out: int, into: int, side: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, into, side, side)
        yield from ((f"{name}.norm.{part}", (out,)) for part in NORM)

    yield from convolution("stem.conv1", 64, 3, 7)
    channels = 64
    for stage, depth in enumerate(depths):
        inner = 64 * 2**stage
        out = 4 * inner if bottleneck else inner
        for block in range(depth):
            name = f"res{stage + 2}.{block}"
            if bottleneck:
                yield from convolution(f"{name}.conv1", inner, channels, 1)
                yield from convolution(f"{name}.conv2", inner, inner, 3)
                yield from convolution(f"{name}.conv3", out, inner, 1)
            else:
                yield from convolution(f"{name}.conv1", out, channels, 3)
                yield from convolution(f"{name}.conv2", out, out, 3)
            if channels != out:
                yield from convolution(f"{name}.shortcut", out, channels, 1)
            channels = out


@pytest.mark.parametrize(
    ("name", "depths", "bottleneck"), [("resnet18", (2, 2, 2, 2), False), ("resnet50", (3, 4, 6, 3), True)]
)
def test_detectron2_finds_every_weight_by_name_and_shape(
    name: str, depths: tuple[int, ...], bottleneck: bool, tmp_path: Path
) -> None:
    mine = trunk(name)
    write(tmp_path / "out.pkl", mine, "detectron2")
    with (tmp_path / "out.pkl").open("rb") as file:
        content = pickle.load(file, encoding="latin1")  # as detection_checkpoint.py does
    assert set(content) == {"model", "__author__", "matching_heuristics"}
    assert content["matching_heuristics"] is True
    assert content["__author__"] != "Caffe2"  # which would rename them
    weights = content["model"]
    expected = dict(detectron2_shapes(depths, bottleneck=bottleneck))
    counted = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    assert {key: value.shape for key, value in counted.items()} == expected
    assert all(isinstance(value, np.ndarray) for value in weights.values())
    c4 = {f"{'roi_heads' if key.startswith('res5') else 'backbone'}.{key}" for key in expected}
    for key in c4:  # c2_model_loading.py, align_and_update_state_dicts: the longest name that ends the model's
        ends = [own for own in weights if key == own or key.endswith(f".{own}")]
        assert max(ends, key=len) == key.partition(".")[2]


def test_detectron2_names_hold_the_weights_that_they_mean(tmp_path: Path) -> None:
    mine = trunk("resnet50")
    write(tmp_path / "out.pkl", mine, "detectron2")
    weights = pickle.loads((tmp_path / "out.pkl").read_bytes())["model"]
    for ours, theirs in (
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_mean", "stem.conv1.norm.running_mean"),
        ("layer1.0.downsample.0.weight", "res2.0.shortcut.weight"),
        ("layer2.0.downsample.1.running_mean", "res3.0.shortcut.norm.running_mean"),
        ("layer3.5.conv2.weight", "res4.5.conv2.weight"),
        ("layer4.2.bn3.running_mean", "res5.2.conv3.norm.running_mean"),
    ):
        np.testing.assert_array_equal(weights[theirs], mine.weights[ours].numpy())


def test_safetensors_keeps_any_backbone(tmp_path: Path) -> None:
    mine = trunk("resnet34", width=2, stem="stride2")
    write(tmp_path / "out.safetensors", mine, "safetensors")
    back = read(tmp_path / "out.safetensors")
    assert (back.backbone, back.width, back.stem) == ("resnet34", 2, "stride2")
    torch.testing.assert_close(dict(back.weights), dict(mine.weights), rtol=0, atol=0)


def test_detectron2_reads_it_with_any_numpy(tmp_path: Path) -> None:
    write(tmp_path / "out.pkl", trunk("resnet18", width=2), "detectron2")
    content = (tmp_path / "out.pkl").read_bytes()
    asked = {word for _, word, _ in pickletools.genops(content) if isinstance(word, str) and "numpy" in word}
    assert asked == {"numpy"}  # numpy.ndarray and numpy.dtype; numpy._core is new, and detectron2's NumPy often old
    assert all(weight.flags.writeable for weight in pickle.loads(content)["model"].values())  # torch wants to own them


@pytest.mark.parametrize("form", ["torchvision", "timm", "detectron2"])
def test_a_network_that_the_project_does_not_have_is_refused(form: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="stride2 stem") as caught:
        write(tmp_path / "out", trunk("resnet18", stem="stride2"), form)
    assert "safetensors" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_width_is_free_in_detectron2_alone(tmp_path: Path) -> None:
    narrow = trunk("resnet18", width=4)
    write(tmp_path / "out.pkl", narrow, "detectron2")
    for form in ("torchvision", "timm"):
        with pytest.raises(FormatError, match="width 4"):
            write(tmp_path / "out", narrow, form)  # type: ignore[arg-type]  # of a tuple of text
