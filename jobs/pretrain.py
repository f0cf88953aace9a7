"""Pre-training: a method on images without labels; ends with a backbone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints

import pydantic
import torch

from jobs import imported, inputs, loop
from jobs.contract import FORBID, Job, Metric, Params
from leoclr import backbones, checkpoint, methods, pretraining
from leoclr.data.contract import Corrupt
from leoclr.pretrain_settings import PretrainSettings
from leoclr.pretraining import Pretraining
from leoclr.stepping import Place
from leoclr.work import Work

METRICS = (Metric("knn_top1", "%", "higher", "kNN top-1"),)
NEEDS: tuple[str, ...] = ()


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class PretrainParams(PretrainSettings):
    """Params of a pre-training; the type of `settings` is the method's own `Config`. A control has 0 epochs."""

    dataset: str
    method: str
    seed: int = 0
    settings: Any = None
    corrupt: Corrupt = Corrupt()  # what happens at an image that cannot be decoded
    # Ends after so many epochs of a schedule made for `epochs`; a pre-training that `needs` this one goes on there.
    # Not among the params of one that runs to its end, whose fingerprint knows nothing of it.
    until: int | None = pydantic.Field(default=None, ge=1, exclude_if=lambda value: value is None)


def params_type(raw: Mapping[str, Any]) -> type[Params]:
    """Return `PretrainParams` with the settings of the method that `raw` names."""
    if raw.get("method") == imported.METHOD:
        return imported.params_type(PretrainParams)
    return _typed(str(raw.get("method")))


@functools.cache
def _typed(method: str) -> type[PretrainParams]:
    if method not in methods.METHODS:  # the caller says so; params without a known method have no settings to check
        return PretrainParams
    module = methods.module(method)
    types = get_type_hints(PretrainSettings)
    fields = {
        "__annotations__": {"settings": module.Config, **{name: types[name] for name in module.RECIPE}},
        "settings": dataclasses.field(default_factory=module.Config),
        **module.RECIPE,
        "__module__": __name__,
        "__doc__": PretrainParams.__doc__,
    }
    if not module.TRAINS:
        fields["__post_init__"] = _never_trained
    plain = type("PretrainParams", (PretrainParams,), fields)
    return cast(type[PretrainParams], pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)(plain))


def _never_trained(params: PretrainParams) -> None:
    """Make the control's epochs 0, whatever a matrix or `--set` gives to all arms alike."""
    object.__setattr__(params, "epochs", 0)


def curves(params: Params) -> tuple[str, ...]:
    """Return the numbers that are recorded over steps."""
    method = getattr(params, "method", "")
    return ("loss", "lr", "images_per_s", *(methods.module(method).WATCHES if method in methods.METHODS else ()))


def train_loop(config: Mapping[str, Any]) -> None:
    """Pre-train in this worker; ray.train sets up the others."""
    loop.run(config, _build, _export)


def _build(job: Job, device: torch.device) -> Work:
    params = inputs.params(job, _typed(str(job.params["method"])))
    module = methods.module(params.method)
    data = inputs.data(job)
    method = module.Method(
        params.settings,
        lambda: backbones.build(
            params.backbone, width=params.width, stem=params.stem, zero_init_residual=params.zero_init_residual
        ),
        pretraining.facts(data),
    )
    return Pretraining(
        method,
        data,
        params,
        module.views(params.settings, params.image_size),
        seed=params.seed,
        place=Place(device=device, loader_workers=job.resources.loader_workers, compile=job.resources.compile),
    )


def _export(job: Job, work: Work, folder: Path) -> None:
    assert isinstance(work, Pretraining)
    params = inputs.params(job, _typed(str(job.params["method"])))
    checkpoint.save_backbone(
        folder / inputs.BACKBONE, work.method.evaluated(), name=params.backbone, width=params.width, stem=params.stem
    )
