"""A pipeline is read with an expert's eye before a GPU-hour is spent: what would run, but should not, is said here.

A rule looks at one stage and yields notes: "refuse" for what cannot work or contradicts itself, "warn" for what has
cost others their runs. Rules know what methods recommend (`RECIPE`) and how large the data is; they read no disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jobs import imported
from leoclr.data import WITH_BOXES
from leoclr.evaluate import protocols
from orchestration import schedule
from orchestration.errors import SpecError
from orchestration.plan import Plan, State
from orchestration.spec import Arm, PipelineSpec, StageSpec

SMALL_IMAGE = 64  # pixels: below, a blur made for 224 pixels wipes out what there is to see
SMALL_CROP = 8  # pixels of the image along a crop's side: below, nothing of the object is left
RATE_SLACK = 2.0  # times off both the linear and the square-root rule before a rate counts as not scaled
FREE_FORM = ("lbfgs", "small")  # linear protocols that fit features of any scale
MOCO_LIKE = ("moco", "clsa", "leoclr_table6")  # linear protocols whose rate of 10 to 30 is for features of small norm
LARS = ("lars", "lars_late")  # optimizers that leave biases and batch norm out of the decay
PARAMETERS = {"resnet18": 11.2e6, "resnet34": 21.3e6, "resnet50": 23.5e6}  # of a trunk of width 64
COPIES = 3 * 4  # trunk, velocity and slow copy in float32; heads and queues are small beside them
KEPT = 4  # checkpoints at once on disk: two, one being written, the result


@dataclass(frozen=True, slots=True)
class Note:
    """What an expert would say."""

    level: Literal["warn", "refuse"]
    place: str  # in the file
    fact: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Case:
    """One stage of one arm, with what a rule may know."""

    stage: StageSpec
    arm: Arm
    images: int | None  # in the split that it trains on; None where the data is not there

    @property
    def params(self) -> Any:
        return self.stage.params

    def place(self, path: str) -> str:
        return f"stages.{self.stage.name}.{path}"


Rule = Callable[[_Case], Iterator[Note]]


def examine(spec: PipelineSpec, sizes: Mapping[str, int]) -> list[Note]:
    """Return the notes on all stages of all arms, each once; `sizes` are training images by data set name."""
    notes: dict[Note, None] = {}
    for arm in spec.arms:
        for stage in arm.stages.values():
            case = _Case(stage, arm, sizes.get(stage.params.dataset))
            if is_imported(stage.params) or (stage.kind == "pretrain" and case.params.epochs == 0):
                continue  # nothing is trained here
            for rule in (_task, _range, *_RULES.get(stage.kind, ())):
                notes.update(dict.fromkeys(rule(case)))
    return list(notes)


def refuse(notes: Sequence[Note], source: str) -> None:
    """Raise a SpecError for the first note that says "refuse", at its place in `source`."""
    for note in notes:
        if note.level == "refuse":
            raise SpecError(note.fact, place=f"{source}: {note.place}", hint=note.hint)


def disk(plan: Plan, free_bytes: int) -> list[Note]:
    """Return a note when the checkpoints of the pre-trainings to do would not fit into `free_bytes`."""
    stages = [stage for stage in plan.stages if stage.kind == "pretrain" and stage.state is State.TODO]
    todo: list[Any] = [stage.spec.params for stage in stages]
    results = [_trunk_bytes(params) for params in todo]
    needed = sum(results) + max(results, default=0.0) * (KEPT - 1)
    if needed <= free_bytes:
        return []
    fact = f"checkpoints need about {needed / 1e9:.1f} GB, {free_bytes / 1e9:.1f} GB are free"
    return [Note("refuse", "stages", fact, "free some disk, or name another folder by LEOCLR_OPS_HOME")]


def is_imported(params: Any) -> bool:
    """Return whether a pre-training was done elsewhere: there is nothing to say of how."""
    return getattr(params, "method", None) == imported.METHOD


def _trunk_bytes(params: Any) -> float:
    width: int = params.width
    return PARAMETERS[params.backbone] * (width / 64) ** 2 * COPIES


def _task(case: _Case) -> Iterator[Note]:
    """Refuse classes where there are boxes, and the reverse: it would only fail after the pre-training."""
    name, kind = case.params.dataset, case.stage.kind
    detects = kind == "detection"
    reads_classes = not detects and (kind != "pretrain" or _reads_classes(case.params.method))
    if (name in WITH_BOXES and reads_classes) or (name not in WITH_BOXES and detects):
        fact = f"{name} has {'boxes, no classes' if reads_classes else 'classes, no boxes'}"
        wanted = sorted(WITH_BOXES) if detects else ["cifar10", "imagenet"]
        yield Note("refuse", case.place("params.dataset"), fact, f"such as {', '.join(wanted)}")


def _range(case: _Case) -> Iterator[Note]:
    """Look at a number of workers that may change from one attempt to the next."""
    asked, place = case.stage.resources, case.place("resources.workers")
    if isinstance(asked.workers, int):
        return
    if not schedule.counts(asked, case.params):
        unit = schedule.shared(case.params)
        able = ", ".join(str(count) for count in range(1, min(unit, 64) + 1) if unit % count == 0)
        fact = f"no number from {asked.fewest} to {asked.most} shares the batch evenly"
        yield Note("refuse", place, fact, f"able: {able}")
    if case.stage.kind == "pretrain" and not case.params.sync_bn:
        fact = "batch norm sees a worker's share of the batch, so the numbers change with the workers"
        more = " and settings.shuffle_bn: false" if getattr(case.params.settings, "shuffle_bn", False) else ""
        yield Note("warn", place, fact, f"params.sync_bn: true{more}, and it sees the whole batch")


def _workers(case: _Case) -> int:
    able = schedule.counts(case.stage.resources, case.params)
    return able[0] if able else case.stage.resources.most


def _batch(case: _Case) -> Iterator[Note]:
    batch, workers, place = case.params.batch, _workers(case), case.place("params.batch")
    if batch % workers and isinstance(case.stage.resources.workers, int):
        near = batch - batch % workers or workers
        yield Note("refuse", place, f"{batch} images cannot be shared by {workers} workers", f"such as {near}")
    splits, part = getattr(case.params.settings, "bn_splits", 1), batch // workers // case.params.accumulate
    if part % splits:
        whose = "a worker" if case.params.accumulate == 1 else "a worker's pass"
        fact = f"{part} images of {whose} cannot be split into {splits} parts for batch norm"
        yield Note("refuse", case.place("params.settings.bn_splits"), fact, "one that divides them")
    if case.images is not None and batch > case.images:
        fact = f"{batch} images a step, but {case.params.dataset} has {case.images} to train on"
        yield Note("refuse", place, fact, f"at most {case.images}")


def _accumulate(case: _Case) -> Iterator[Note]:
    params, place = case.params, case.place("params.accumulate")
    share, passes = params.batch // _workers(case), params.accumulate
    if passes == 1:
        return
    if share % passes:
        near = next(count for count in range(passes, 0, -1) if share % count == 0)
        yield Note("refuse", place, f"{share} images of a worker are not {passes} equal parts", f"such as {near}")
    if reason := _coupling(params):
        yield Note("refuse", place, f"{params.method}: {reason}", "accumulate: 1, and more workers for a larger batch")


def _queue(case: _Case) -> Iterator[Note]:
    keys, images = getattr(case.params.settings, "queue_size", None), case.images
    if keys and images and keys > images:
        fact = f"the queue holds {keys} keys, but {case.params.dataset} has {images} images: each is its own negative"
        hint = f"at most half the images; {2 ** int(math.log2(max(images // 8, 1)))} is a usual share"
        yield Note("warn", case.place("params.settings.queue_size"), fact, hint)


def _rate(case: _Case) -> Iterator[Note]:
    recipe, params = _recipe(params=case.params), case.params
    ratio = params.batch / recipe.batch
    if ratio == 1 or params.optimizer != recipe.optimizer:
        return
    rules = (recipe.lr * ratio, recipe.lr * math.sqrt(ratio))
    if all(not 1 / RATE_SLACK <= params.lr / expected <= RATE_SLACK for expected in rules):
        fact = f"{params.lr:g} for a batch of {params.batch}; the recipe of {params.method} has {recipe.lr:g}"
        hint = f"at {recipe.batch}: scaled with the batch it is {rules[0]:g}, with its root {rules[1]:g}"
        yield Note("warn", case.place("params.lr"), fact, hint)


def _norms(case: _Case) -> Iterator[Note]:
    params = case.params
    if params.sync_bn and getattr(params.settings, "shuffle_bn", False):
        fact = "synchronized batch norm undoes shuffled batch norm: query and key share their statistics again"
        yield Note("refuse", case.place("params.sync_bn"), fact, "one of sync_bn and settings.shuffle_bn is false")
    if params.sync_bn and getattr(params.settings, "bn_splits", 1) > 1:
        fact = "synchronized batch norm joins what settings.bn_splits takes apart"
        yield Note("refuse", case.place("params.sync_bn"), fact, "one of sync_bn and settings.bn_splits")
    recipe = _recipe(params=params)
    excluded = recipe.optimizer in LARS or not recipe.decay_vectors
    if excluded and params.decay_vectors and params.weight_decay and params.optimizer not in LARS:
        fact = f"decays biases and batch norm too; the recipe of {params.method} leaves them out"
        yield Note("warn", case.place("params.decay_vectors"), fact, "decay_vectors: false")


def _precision(case: _Case) -> Iterator[Note]:
    if case.params.precision == "bf16" and case.stage.resources.gpus_per_worker == 0:
        fact = "torch's bf16 convolutions on a CPU give no numbers now and then on maps of one cell, and save no time"
        fact += "; without AVX-512 they take up to ten times as long"
        yield Note("warn", case.place("params.precision"), fact, "precision: fp32")


def _small_images(case: _Case) -> Iterator[Note]:
    params = case.params
    if params.image_size > SMALL_IMAGE:
        return
    from leoclr import methods

    views = methods.module(params.method).views(params.settings, params.image_size)
    if any(view.blur_p for view in views):
        fact = f"blurs images of {params.image_size} pixels; the published small-image recipes do not"
        yield Note("warn", case.place("params.settings.blur_p"), fact, "blur_p: 0.0")
    lowest = min((view.crop_scale[0] for view in views if view.crop_scale), default=1.0)
    side = math.sqrt(lowest) * params.image_size
    if side < SMALL_CROP:
        fact = f"a crop of {lowest:g} of the area is {side:.0f} pixels wide"
        yield Note("warn", case.place("params.settings.crop_scale"), fact, "such as [0.2, 1.0]")


def _protocol(case: _Case) -> Iterator[Note]:
    upstream = next((case.arm.stages[need] for need in case.stage.needs), None)
    protocol = case.params.protocol
    if upstream is None or upstream.kind != "pretrain" or protocol in FREE_FORM:
        return
    params: Any = upstream.params
    family = _contrasts_with_queue(params)
    if family is None or family == (protocol in MOCO_LIKE):
        return
    rates, trained = _rates(case.params.settings), _method(params)
    fact = f"`{protocol}` is not how features of {trained} are evaluated: its rate of {rates} does not fit their scale"
    yield Note("warn", case.place("params.protocol"), fact, f"such as `{'moco' if family else 'simclr'}`")


def _contrasts_with_queue(params: Any) -> bool | None:
    """Return whether a pre-training's method is of MoCo's family; None where unknown, or where any protocol will do."""
    from leoclr import methods
    from leoclr.methods import moco_v2

    name = _method(params)
    if name not in methods.METHODS or not methods.module(name).TRAINS:
        return None
    return isinstance(methods.module(name).Config(), moco_v2.Config)


def _method(params: Any) -> str:
    return str(params.settings.as_method if is_imported(params) else params.method)


def _evaluation_batch(case: _Case) -> Iterator[Note]:
    """Warn where a protocol's batch is changed and its rate is not, unless the protocol scales it."""
    settings, protocol = case.params.settings, case.params.protocol
    field = "lrs" if hasattr(settings, "lrs") else "lr"
    changed = protocols.changed(case.stage.kind, protocol, settings)
    if protocol in FREE_FORM or "batch" not in changed or field in changed or not hasattr(settings, field):
        return
    if getattr(settings, "lr_images", None) is None:
        published: Any = protocols.settings_type(case.stage.kind, protocol)()
        fact = f"the batch is {settings.batch} instead of {published.batch}, but the rate is still {_rates(settings)}"
        hint = f"rates are for the whole batch: times {settings.batch / published.batch:g} scales them with it"
        yield Note("warn", case.place(f"params.settings.{field}"), fact, hint)


def _rates(settings: Any) -> str:
    return ", ".join(f"{rate:g}" for rate in getattr(settings, "lrs", (getattr(settings, "lr", 0.0),)))


def _reads_classes(method: str) -> bool:
    from leoclr import methods

    reads: bool = methods.module(method).Method.READS_CLASSES
    return reads


def _coupling(params: Any) -> str:
    from leoclr import methods

    reason: str = methods.module(params.method).Method.coupling(params.settings)
    return reason


def _recipe(*, params: Any) -> Any:
    from leoclr import methods
    from leoclr.pretrain_settings import PretrainSettings

    return PretrainSettings(**methods.module(params.method).RECIPE)


_RULES: dict[str, tuple[Rule, ...]] = {
    "pretrain": (_batch, _accumulate, _queue, _rate, _norms, _precision, _small_images),
    "linear": (_protocol, _evaluation_batch),
    "detection": (_evaluation_batch,),
}
