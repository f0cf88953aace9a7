"""Files written as each project writes them give back the features that its network computes."""

from __future__ import annotations

import argparse
import copy
import pathlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from lightly.models import ResNetGenerator
from lightly.models.modules import MoCoProjectionHead
from torch import Tensor, nn

from leoclr import backbones, checkpoint
from leoclr.formats import FormatError, Trunk, read


class Small(nn.Module):
    """A narrow ResNet with torchvision's names and a classifier, as projects put into their models."""

    def __init__(self, name: str = "resnet18", stem: backbones.Stem = "imagenet") -> None:
        super().__init__()
        trunk = backbones.build(name, width=4, stem=stem)
        for part, module in trunk.named_children():
            self.add_module(part, module)
        self.fc: nn.Module = nn.Linear(trunk.feature_dim, 3)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))


def lived(network: nn.Module) -> nn.Module:
    """Return the network with statistics in its batch norms, as after training."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean)
            module.running_var = torch.rand_like(module.running_var) + 0.5
            module.num_batches_tracked = torch.tensor(7)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval()


def in_ddp(**parts: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model that has these parts, saved out of DistributedDataParallel."""
    return {f"module.{key}": weight for key, weight in nn.ModuleDict(parts).state_dict().items()}


def saved(path: Path, tree: object, **options: Any) -> Path:
    torch.save(tree, path, **options)
    return path


def trunk_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: weight for key, weight in network.state_dict().items() if not key.startswith("fc.")}


def moco(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = mlp()
    state = in_ddp(encoder_q=trunk, encoder_k=lived(Small()))
    state |= {"module.queue": torch.randn(8, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.03, momentum=0.9)
    sum(parameter.sum() for parameter in trunk.parameters()).backward()
    optimizer.step()
    optimizer.zero_grad()
    state |= {f"module.encoder_q.{key}": weight for key, weight in trunk.state_dict().items()}
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer.state_dict()}


def moco_v3(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = mlp()
    state = in_ddp(base_encoder=trunk, momentum_encoder=lived(Small()), predictor=mlp())
    return {"epoch": 1000, "arch": "resnet18", "state_dict": state, "optimizer": {}, "scaler": {"scale": 65536.0}}


def simsiam(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Sequential(nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU())
    return {"epoch": 100, "arch": "resnet18", "state_dict": in_ddp(encoder=trunk, predictor=mlp()), "optimizer": {}}


def dino(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Identity()
    other = lived(Small())
    other.fc = nn.Identity()
    arguments = argparse.Namespace(arch="resnet50", lr=0.03, out_dim=60000)
    return {
        "student": in_ddp(backbone=other, head=mlp()),
        "teacher": in_ddp(backbone=trunk, head=mlp()),
        "epoch": 800,
        "args": arguments,
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def barlowtwins(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Identity()
    state = in_ddp(backbone=trunk, projector=mlp(), bn=nn.BatchNorm1d(8, affine=False))
    return {"epoch": 1000, "model": state, "optimizer": {}}


def vicreg(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Identity()
    return {"epoch": 1000, "model": in_ddp(backbone=trunk, projector=mlp()), "optimizer": {}}


def swav(trunk: nn.Module) -> Mapping[str, Any]:
    del trunk.fc
    trunk.projection_head, trunk.prototypes = mlp(), nn.Linear(8, 5, bias=False)
    return {f"module.{key}": weight for key, weight in trunk.state_dict().items()}


def swav_checkpoint(trunk: nn.Module) -> Mapping[str, Any]:
    return {"epoch": 800, "state_dict": swav(trunk), "optimizer": {}}


def solo_learn(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Identity()
    parts = nn.ModuleDict({"backbone": trunk, "classifier": nn.Linear(32, 10), "projector": mlp()})
    return {"epoch": 400, "pytorch-lightning_version": "1.9.0", "state_dict": parts.state_dict()}


def lightly(trunk: nn.Module) -> Mapping[str, Any]:
    trunk.fc = nn.Identity()
    parts = nn.ModuleDict({"backbone": trunk, "backbone_momentum": lived(Small()), "projection_head": mlp()})
    return {"epoch": 200, "state_dict": parts.state_dict(), "hyper_parameters": {"batch_size_per_device": 256}}


def torchvision_like(trunk: nn.Module) -> Mapping[str, Any]:
    return trunk.state_dict()


FILES = {
    "moco": moco,
    "moco_v3": moco_v3,
    "simsiam": simsiam,
    "dino": dino,
    "barlowtwins": barlowtwins,
    "vicreg": vicreg,
    "swav": swav,
    "swav_checkpoint": swav_checkpoint,
    "solo_learn": solo_learn,
    "lightly": lightly,
    "torchvision": torchvision_like,
}


@pytest.mark.parametrize("name", FILES)
def test_the_trunk_of_each_project_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    network = lived(Small())
    tree = FILES[name](network)
    found = read(saved(tmp_path / "checkpoint.pth.tar", tree))
    assert (found.layout, found.backbone, found.width, found.stem) == (
        name.split("_check")[0],
        "resnet18",
        4,
        "imagenet",
    )
    expected = {key: w for key, w in network.state_dict().items() if key in found.weights}
    torch.testing.assert_close(dict(found.weights), expected, rtol=0, atol=0)
    assert set(found.build().state_dict()) == set(found.weights)


def assert_same_features(found: Trunk, network: nn.Module, side: int = 64) -> None:
    images_NCHW = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(found.build().eval()(images_NCHW), network(images_NCHW).flatten(start_dim=1))


def test_torchvisions_own_network(tmp_path: Path) -> None:
    network = lived(torchvision.models.resnet18())
    found = read(saved(tmp_path / "resnet18.pth", network.state_dict()))
    network.fc = nn.Identity()
    assert (found.layout, found.width, found.left_out) == ("torchvision", 64, ("fc",))
    assert_same_features(found, network)


def test_timms_own_network(tmp_path: Path) -> None:
    network = lived(timm.create_model("resnet18", num_classes=0))
    assert_same_features(read(saved(tmp_path / "resnet18.pth", network.state_dict())), network)


def test_lightlys_numbered_children(tmp_path: Path) -> None:
    backbone = lived(nn.Sequential(*list(torchvision.models.resnet18().children())[:-1]))
    model = nn.ModuleDict({"backbone": backbone, "projection_head": MoCoProjectionHead(512, 512, 128)})
    model["backbone_momentum"] = lived(copy.deepcopy(backbone))
    found = read(saved(tmp_path / "model.ckpt", model.state_dict()))
    assert (found.layout, found.left_out) == ("lightly", ("backbone_momentum", "projection_head"))
    assert_same_features(found, backbone)
    tutorial = saved(tmp_path / "model.pth", {"resnet18_parameters": backbone.state_dict()})
    assert_same_features(read(tutorial), backbone)


@pytest.mark.parametrize("numbered", [True, False])
def test_lightlys_network_for_small_images(numbered: bool, tmp_path: Path) -> None:
    network = lived(ResNetGenerator("resnet-18", width=0.125))
    backbone = nn.Sequential(*list(network.children())[:-1])
    state = backbone.state_dict() if numbered else network.state_dict()
    found = read(saved(tmp_path / "model.ckpt", {f"backbone.{key}": weight for key, weight in state.items()}))
    assert (found.width, found.stem) == (8, "cifar")
    network.linear = nn.Identity()
    assert_same_features(found, network, side=32)


def test_older_files_lack_counters_and_may_be_no_zip(tmp_path: Path) -> None:
    network = lived(Small("resnet50"))
    state = {key: weight for key, weight in network.state_dict().items() if "num_batches" not in key}
    found = read(saved(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False))
    assert found.backbone == "resnet50"
    assert found.weights["bn1.num_batches_tracked"] == 0
    torch.testing.assert_close(found.weights["bn1.running_var"], state["bn1.running_var"])


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {key: w.half() if w.is_floating_point() else w for key, w in Small().state_dict().items()}
    found = read(saved(tmp_path / "half.pth", state))
    assert found.weights["conv1.weight"].dtype == torch.float32
    torch.testing.assert_close(found.weights["conv1.weight"], state["conv1.weight"].float(), rtol=0, atol=0)


def test_our_own_file_keeps_the_stem_that_shapes_do_not_tell(tmp_path: Path) -> None:
    trunk = backbones.build("resnet34", width=2, stem="stride2")
    checkpoint.save_backbone(tmp_path / "b.safetensors", trunk, name="resnet34", width=2, stem="stride2")
    found = read(tmp_path / "b.safetensors")
    assert (found.layout, found.backbone, found.width, found.stem) == ("leoclr", "resnet34", 2, "stride2")
    torch.testing.assert_close(dict(found.weights), trunk.state_dict(), rtol=0, atol=0)


def refused(tmp_path: Path, tree: object) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(saved(tmp_path / "file.pth", tree))
    return caught.value


def test_a_wrong_architecture_is_told_by_its_keys(tmp_path: Path) -> None:
    deeper = nn.Sequential(*(Small().layer3[1] for _ in range(5)))
    tree = Small().state_dict() | {
        f"layer3.{i + 2}.{k}": w for i in range(5) for k, w in deeper[i].state_dict().items()
    }
    del tree["layer4.1.bn2.bias"]
    tree["layer2.0.conv1.weight"] = torch.zeros(8, 4, 1, 1)
    message = str(refused(tmp_path, tree))
    assert message.startswith("it is not a resnet18 of width 4 with the imagenet stem: ")
    assert "layer2.0.conv1.weight is [8, 4, 1, 1] instead of [8, 4, 3, 3]" in message
    assert "1 missing (layer4.1.bn2.bias)" in message
    assert "60 unexpected (layer3.2.conv1.weight" in message
    assert "layer3.2.bn2.weight and 52 more)" in message


def test_what_is_no_resnet_is_told_so(tmp_path: Path) -> None:
    assert "its keys are features.0.weight" in str(refused(tmp_path, {"features.0.weight": torch.zeros(2)}))
    assert "it holds no weights: epoch, arch" in str(refused(tmp_path, {"epoch": 1, "arch": "vit"}))
    assert "it holds a list" in str(refused(tmp_path, [torch.zeros(2)]))
    assert "pads its 3x3 stem by 2" in str(refused(tmp_path, solo_learn(Small(stem="cifar"))))
    assert "shape [4, 3, 16, 16]" in str(refused(tmp_path, {"conv1.weight": torch.zeros(4, 3, 16, 16)}))
    diverged = Small().state_dict()
    diverged["layer1.0.bn1.bias"][0] = float("nan")
    assert "layer1.0.bn1.bias holds values that are not finite" in str(refused(tmp_path, diverged))


class Attack:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_wants_to_run_code_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    tree = {"state_dict": Small().state_dict(), "args": Attack(tmp_path / "hacked")}
    saved(tmp_path / "evil.pth", tree, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FormatError, match="asks to run") as caught:
        read(tmp_path / "evil.pth")
    assert "weights_only=False" in caught.value.hint
    assert not (tmp_path / "hacked").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # it is a real one
    assert (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_bytes_that_are_no_checkpoint_are_one_error(name: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "good.pth", Small().state_dict())
    content = file.read_bytes()
    for damaged in (b"", b"no checkpoint", content[: len(content) // 2], content[:100] + bytes(100) + content[200:]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(FormatError):
            read(tmp_path / name)
