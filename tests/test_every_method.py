"""The contract of `leoclr.methods`, for every line of its table."""

import dataclasses

import pytest
import torch
from torch import Tensor

from leoclr.augment.views import View
from leoclr.backbones import Backbone, build
from leoclr.methods import METHODS, module
from leoclr.methods.contract import At, Batch, Method
from leoclr.pretrain_settings import PretrainSettings
from leoclr.queue import Queue
from tests import small_methods
from tests.small_methods import FACTS, SMALL

EVERY = sorted(METHODS)
TRAINED = [name for name in EVERY if module(name).TRAINS]


def new_backbone() -> Backbone:
    return build("resnet18", width=2, stem="stride2")


def new_method(name: str, *, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return module(name).Method(module(name).Config(**SMALL[name]), new_backbone, FACTS)


def batch(name: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return small_methods.batch(name, images=4, size=16, generator=generator, dtype=torch.float32)


@pytest.mark.parametrize("name", EVERY)
def test_config_is_frozen_data_with_defaults_only(name: str) -> None:
    config = module(name).Config()
    assert dataclasses.is_dataclass(config)
    assert config == module(name).Config()
    assert hash(config) == hash(module(name).Config())
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, getattr(config, field.name))
        assert field.kw_only


@pytest.mark.parametrize("name", EVERY)
def test_the_largest_view_has_the_size_asked_for(name: str) -> None:
    listed = module(name).views(module(name).Config(), 48)
    assert all(isinstance(view, View) for view in listed)
    assert max(view.size for view in listed) == 48


@pytest.mark.parametrize("name", EVERY)
def test_recipe_names_settings_of_a_pretraining_that_differ_from_its_defaults(name: str) -> None:
    defaults = PretrainSettings()
    PretrainSettings(**module(name).RECIPE)
    assert all(getattr(defaults, key) != value for key, value in module(name).RECIPE.items())


@pytest.mark.parametrize("name", TRAINED)
def test_groups_hold_every_trained_parameter_once(name: str) -> None:
    method = new_method(name)
    grouped = [parameter for group in method.groups() for parameter in group["params"]]
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trained))


@pytest.mark.parametrize("name", EVERY)
def test_equal_seeds_start_all_methods_from_equal_backbones(name: str) -> None:
    torch.testing.assert_close(new_method(name, seed=5).backbone.state_dict(), build_from(5), rtol=0, atol=0)


def build_from(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return new_backbone().state_dict()


@pytest.mark.parametrize("name", EVERY)
def test_state_goes_into_a_method_from_another_seed(name: str) -> None:
    source, target = new_method(name, seed=0), new_method(name, seed=1)
    target.load_state_dict(source.state_dict(), strict=True)
    torch.testing.assert_close(target.state_dict(), source.state_dict(), rtol=0, atol=0)
    addresses = [tensor.data_ptr() for tensor in source.state_dict().values()]
    assert len(set(addresses)) == len(addresses)  # no tensor is stored under two names


@pytest.mark.parametrize("name", TRAINED)
def test_forward_gives_a_finite_loss_and_unit_keys_without_gradient(name: str) -> None:
    method = new_method(name)
    done = method(batch(name))
    assert done.loss.shape == ()
    assert done.loss.requires_grad
    assert done.loss.isfinite()
    for key_ND in done.keys:
        assert not key_ND.requires_grad
        if any(isinstance(part, Queue) for part in method.modules()):
            torch.testing.assert_close(key_ND.norm(dim=1), torch.ones(4))
    assert [name for name, _ in done.watch] == [*module(name).WATCHES]
    for _, value in done.watch:
        assert value.shape == ()
        assert value.isfinite()
        assert not value.requires_grad


@pytest.mark.parametrize("name", TRAINED)
def test_forward_changes_nothing_but_batch_statistics(name: str) -> None:
    method = new_method(name)
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    method(batch(name))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for key, tensor in method.state_dict().items():
        if not key.endswith(statistics):
            torch.testing.assert_close(tensor, before[key], rtol=0, atol=0, msg=f"forward changed {key}")


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_trains_the_backbone_and_continues_from_state(name: str) -> None:
    method, continued = new_method(name, seed=0), new_method(name, seed=1)
    losses = []
    take_step(method, name, step=0)
    continued.load_state_dict(method.state_dict())
    for each in (method, continued):
        losses.append(take_step(each, name, step=1))
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=0)
    torch.testing.assert_close(continued.state_dict(), method.state_dict(), rtol=0, atol=0)
    moved = [not torch.equal(new, old) for new, old in zip(weights(method), weights(new_method(name)), strict=True)]
    assert all(moved)


def take_step(method: Method, name: str, *, step: int) -> Tensor:
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)  # without momentum: nothing of it to carry over
    at = At(step, total=2, epoch=0, epochs=1)
    method.before_step(at)
    done = method(batch(name))
    done.loss.backward()
    method.after_backward(at)
    optimizer.step()
    optimizer.zero_grad()
    method.update(done)
    return done.loss.detach()


def weights(method: Method) -> list[Tensor]:
    return [parameter for parameter in method.backbone.parameters() if parameter.ndim > 1]


@pytest.mark.parametrize("name", sorted(set(EVERY) - set(TRAINED)))
def test_a_control_refuses_to_train(name: str) -> None:
    with pytest.raises(RuntimeError):
        new_method(name)(batch(name))
