"""Compiled networks are the networks themselves: one graph each, the same numbers, the same names in a checkpoint."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from leoclr.backbones import build
from leoclr.compiling import _can_compile, compile_networks, compiles, networks, own_cache
from leoclr.methods import METHODS, module
from leoclr.methods.contract import At, Method
from leoclr.pretrain_settings import PretrainSettings
from leoclr.stepping import Place, Stepper
from tests.small_methods import FACTS, SMALL, batch
from tests.tiny_backbone import Tiny

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's tracer
SETTINGS = PretrainSettings(epochs=1, batch=8, image_size=16)
TRAINED = sorted(name for name in METHODS if module(name).TRAINS)
BESIDE = {"spcl": {"metric", "prototypes"}, "swav": {"prototypes"}}  # single layers behind the heads


def method_of(name: str, backbone: Any = Tiny) -> Method:
    torch.manual_seed(0)
    made: Method = module(name).Method(module(name).Config(**SMALL[name]), backbone, FACTS)
    return made


def losses(method: Method, name: str, settings: PretrainSettings = SETTINGS) -> list[float]:
    stepper = Stepper(method, settings, Place(device=CPU, compile="off"))
    stepper.train()
    found = []
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        shown = batch(name, images=8, size=16, generator=generator, dtype=torch.float32)
        found.append(stepper.take([shown], At(step, 2, 0, 1), lr=0.1).loss.item())
    return found


@pytest.mark.parametrize("name", TRAINED)
def test_all_but_single_layers_is_compiled(name: str) -> None:
    method = method_of(name)
    reached = {id(parameter) for network in networks(method) for parameter in network.parameters()}
    rest = {key.partition(".")[0] for key, parameter in method.named_parameters() if id(parameter) not in reached}
    assert rest == BESIDE.get(name, set())


@pytest.mark.parametrize("name", ["byol", "leoclr"])
def test_a_compiled_method_is_the_plain_one(name: str) -> None:
    torch.compiler.reset()
    plain, compiled = method_of(name), method_of(name)
    names = list(plain.state_dict())
    compile_networks(compiled, backend="eager", whole=True)
    assert losses(compiled, name) == losses(plain, name)
    assert list(compiled.state_dict()) == names
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(compiled).state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_an_evaluation_takes_the_networks_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    graphs: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr("leoclr.stepping.compile_networks", lambda method: compile_networks(method, backend=backend))
    stepper = Stepper(method_of("supervised"), SETTINGS, Place(device=CPU, compile="on"))
    images = torch.randn(8, 3, 16, 16)
    with stepper.plain():
        expected = stepper.method.backbone(images)
    assert graphs == []
    torch.testing.assert_close(stepper.method.backbone(images), expected)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_is_whole_graphs_on_a_resnet(name: str) -> None:
    torch.compiler.reset()
    made = [method_of(name, lambda: build("resnet18", width=2, stem="stride2")) for _ in range(2)]
    compile_networks(made[1], backend="eager", whole=True)
    assert losses(made[1], name) == losses(made[0], name)


@pytest.mark.slow
def test_the_compiler_itself_in_bf16() -> None:
    torch.compiler.reset()
    plain, compiled = method_of("leoclr"), method_of("leoclr")
    compile_networks(compiled, backend="aot_eager", whole=True)
    half = replace(SETTINGS, precision="bf16")
    assert losses(compiled, "leoclr", half) == pytest.approx(losses(plain, "leoclr", half), rel=0.02)


def test_what_is_compiled_lies_where_only_the_user_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "first this, so that it is put back")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own_cache()
    assert cache_dir() == str(tmp_path / "leoclr-ops" / "compiled")
    assert (tmp_path / "leoclr-ops" / "compiled").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    own_cache()
    assert cache_dir() == str(tmp_path / "mine")


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "first this, so that it is put back")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    (tmp_path / "leoclr-ops").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="what is compiled is not kept: .*leoclr-ops"):
        own_cache()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


@pytest.mark.skipif(torch.cuda.is_available(), reason="it can compile for this device")
def test_where_torch_cannot_compile_it_is_said_once_and_done_without() -> None:
    _can_compile.cache_clear()
    with pytest.warns(UserWarning, match="networks are not compiled, which is slower: ") as told:
        found = [compiles("auto", torch.device("cuda"), breaks=False) for _ in range(2)]
    assert (found, len(told)) == ([False, False], 1)
