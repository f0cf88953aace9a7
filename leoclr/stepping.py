"""One optimizer step of a method, wherever its views come from.

The forms that cost least, all exact: channels_last memory, one kernel for the optimizer and for the slow encoder, no
wait for the device, and, where they are asked for, bf16 and compiled networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leoclr import distributed, distributed_norm, optim
from leoclr.compiling import Compile, compile_networks, compiles
from leoclr.lars import LARC, LARS
from leoclr.methods.contract import At, Batch, Method, Step
from leoclr.pretrain_settings import PretrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a method is trained: nothing here changes a number by more than rounding."""

    device: torch.device
    loader_workers: int = 0  # processes that read and crop images, for data sets that live in files
    compile: Compile = "auto"


class Stepper:
    """Holds a method, ready to train on its device and on all workers, and its optimizer; `take` trains it."""

    def __init__(self, method: Method, settings: PretrainSettings, place: Place) -> None:
        """Move `method` to its place. Raises: ValueError where its batches cannot come in parts, see `coupling`."""
        if settings.accumulate > 1 and (reason := method.coupling(method.config)):
            raise ValueError(f"accumulate: {reason}")
        self._settings, self._device = settings, place.device
        self.method = method.to(place.device).to(memory_format=torch.channels_last)  # faster, on a CPU too
        if settings.sync_bn:
            distributed_norm.convert_sync_batchnorm(self.method)  # in place
        if place.device.type == "cuda":  # views have few sizes: the fastest kernels are found once; main_moco.py too
            torch.backends.cudnn.benchmark = True
        self.compiled = compiles(place.compile, place.device, breaks=settings.sync_bn and distributed.world_size() > 1)
        if self.compiled:
            compile_networks(self.method)
        self._train: nn.Module = self.method
        self.optimizer: torch.optim.Optimizer | None = None
        if settings.epochs:  # the control is never trained: it needs neither gradients nor an optimizer
            self._train = distributed.wrap(self.method, place.device)
            self.optimizer = new_optimizer(self.method, settings)

    def train(self) -> None:
        """Put the method in training mode."""
        self._train.train()

    def plain(self) -> AbstractContextManager[Any]:
        """Leave compiled networks aside inside the block: the sizes of an evaluation are not worth compiling for."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    def take(self, parts: Iterable[Batch], at: At, *, lr: float) -> Step:
        """Take the step `at` at the rate `lr` and return it, its loss detached.

        `parts` are the `accumulate` equal parts of the step's batch, asked for one by one. The step is that of the
        whole batch, but for batch norm: it sees a part, and moves its running statistics at each. A slow encoder and a
        queue stay as they are until all parts are done, and then get the keys of all.
        """
        assert self.optimizer is not None
        optim.set_lr(self.optimizer, lr, fixed=self._settings.lr)
        self.method.before_step(at)
        self.optimizer.zero_grad(set_to_none=True)
        count = self._settings.accumulate
        done = [self._pass(part, last=place == count) for place, part in enumerate(parts, start=1)]
        assert len(done) == count
        self.method.after_backward(at)
        self.optimizer.step()
        step = _joined(done)
        self.method.update(step)
        return step

    def _pass(self, part: Batch, *, last: bool) -> Step:
        """Add a part's share of the gradient; workers exchange theirs at the last part alone."""
        half = self._settings.precision == "bf16"
        with self._apart(last):
            with torch.autocast(self._device.type, torch.bfloat16) if half else nullcontext():
                step: Step = self._train(part)
            (step.loss / self._settings.accumulate).backward()
        return Step(step.loss.detach(), step.keys, step.watch)

    def _apart(self, last: bool) -> AbstractContextManager[Any]:
        if last or not isinstance(self._train, DistributedDataParallel):
            return nullcontext()
        return self._train.no_sync()


def new_optimizer(method: Method, settings: PretrainSettings) -> torch.optim.Optimizer:
    """Return the optimizer that `settings` name for what `method` trains."""
    momentum, decay = settings.sgd_momentum, settings.weight_decay
    groups = _groups(method, settings)
    if settings.optimizer == "larc":
        return LARC(groups, lr=settings.lr, momentum=momentum, weight_decay=decay)
    if settings.optimizer in ("lars", "lars_late"):
        late = settings.optimizer == "lars_late"
        nesterov = settings.nesterov
        return LARS(groups, lr=settings.lr, momentum=momentum, weight_decay=decay, late_rate=late, nesterov=nesterov)
    return optim.sgd(groups, lr=settings.lr, momentum=momentum, weight_decay=decay, nesterov=settings.nesterov)


def _joined(steps: Sequence[Step]) -> Step:
    """Return the steps of the parts of a batch as that of the whole: keys in the batch's order, the rest as means."""
    if len(steps) == 1:
        return steps[0]
    keys = tuple(torch.cat(parts) for parts in zip(*(step.keys for step in steps), strict=True))
    names = [name for name, _ in steps[0].watch]
    seen = zip(*([value for _, value in step.watch] for step in steps), strict=True)
    watch = tuple((name, _mean(values)) for name, values in zip(names, seen, strict=True))
    return Step(_mean([step.loss for step in steps]), keys, watch)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def _groups(method: Method, settings: PretrainSettings) -> list[dict[str, Any]]:
    """Return the method's groups; vectors are apart from arrays where their rate or their decay differs."""
    groups: list[dict[str, Any]] = []
    for group in method.groups():
        rest: dict[str, Any] = {key: value for key, value in group.items() if key != "params"}
        if group.get("plain", False):
            rest["weight_decay"] = 0.0
        if settings.decay_vectors and settings.vector_lr_scale == 1:
            groups.append({"params": group["params"], **rest})
            continue
        arrays = [parameter for parameter in group["params"] if parameter.ndim > 1]
        vectors = [parameter for parameter in group["params"] if parameter.ndim <= 1]
        scale = rest.get("lr_scale", 1.0) * settings.vector_lr_scale
        decay = {} if settings.decay_vectors else {"weight_decay": 0.0}
        groups += [{"params": arrays, **rest}, {"params": vectors, **rest, **decay, "lr_scale": scale}]
    return [group for group in groups if group["params"]]
