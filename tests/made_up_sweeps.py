"""Small sweeps with numbers that nobody measured: what tables and figures of sweeps are tested on."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from orchestration.sweep.result import Anchor, Axis, Objective, State, SweepResult, Trial

TOP1 = Objective("linear top-1", "linear", "top1", "max", "%")
TIME = Objective("time", "pretrain", "seconds", "min", "s")
METHOD = Axis("method", ("leoclr", "moco_v2"), "category")


def trial(
    number: int,
    point: Mapping[str, object],
    *,
    seed: int | None = None,
    state: State = "done",
    values: Mapping[str, float] | float | None = None,
    reason: str = "",
) -> Trial:
    """Return a trial whose labels are its values; a bare number is its top-1."""
    known = {} if values is None else values if isinstance(values, Mapping) else {TOP1.title: values}
    labels = {name: str(value) for name, value in point.items()}
    return Trial(number, point, labels, seed, state, reason, f"{number:08x}" + "0" * 24, known, (), 60.0)


def augment() -> SweepResult:
    """Return two methods without some augmentations over three seeds; one trial of them failed."""
    falls = {"baseline": (0.0, 0.0), "no color": (-3.0, -5.0), "crop only": (-9.0, -14.0)}
    trials = []
    for label, fall in falls.items():
        for method, start, less in zip(("leoclr", "moco_v2"), (90.0, 85.0), fall, strict=True):
            for seed in range(3):
                point = {"augmentation": label, "method": method}
                if (label, method, seed) == ("no color", "moco_v2", 2):
                    trials.append(trial(len(trials), point, seed=seed, state="failed", reason="out of memory"))
                else:
                    value = start + less + 0.5 * seed + 0.1 * ((len(trials) * 7) % 5)
                    trials.append(trial(len(trials), point, seed=seed, values=value))
    source = "arXiv:2403.06813, figure 4"
    published = {("baseline", "leoclr"): 71.7, ("crop only", "leoclr"): 46.6, ("baseline", "moco_v2"): 67.5}
    return SweepResult(
        "ablation-augment",
        "Augmentations removed",
        (Axis("augmentation", tuple(falls), "category"), METHOD),
        (TOP1,),
        tuple(
            Anchor({"augmentation": a, "method": m}, TOP1.title, v, source)
            for (a, m), v in {**published, ("crop only", "moco_v2"): 39.5}.items()
        ),
        tuple(trials),
        "grid",
    )


def momentum() -> SweepResult:
    """Return one method over its momentum; 0 diverges. Published: another data set, one more value."""
    values, reached = (0, 0.9, 0.99, 0.999), (None, 80.0, 84.0, 86.0)
    trials = [
        trial(2 * i + seed, {"momentum": m}, seed=seed, values=None if top is None else top + seed)
        if top is not None
        else trial(2 * i + seed, {"momentum": m}, seed=seed, state="diverged", reason="the loss is not finite")
        for i, (m, top) in enumerate(zip(values, reached, strict=True))
        for seed in range(2)
    ]
    published = {"0.9": 55.2, "0.99": 57.8, "0.999": 59.0, "0.9999": 58.9}
    known = {"0": None, **published}
    anchors = tuple(Anchor({"momentum": m}, TOP1.title, v, "arXiv:1911.05722") for m, v in known.items())
    axes = (Axis("momentum", values, "category"),)
    return SweepResult("ablation-momentum", "Momentum", axes, (TOP1,), anchors, tuple(trials), "grid")


def conditional() -> SweepResult:
    """Return a sweep with an axis that its baseline lacks: how strong an augmentation is, where there is one."""
    axes = (Axis("view", ("none", "gray", "color"), "category"), Axis("strength", ("weak", "strong"), "category"))
    points = ({"view": "none"}, {"view": "gray"}, *({"view": "color", "strength": each} for each in ("weak", "strong")))
    trials = tuple(trial(i, point, seed=0, values=80.0 + i) for i, point in enumerate(points))
    return SweepResult("s", "S", axes, (TOP1,), (), trials, "grid")


def shares() -> SweepResult:
    """Return methods whose objectives are one accuracy at three shares of the labels."""
    goals = tuple(Objective(f"{p} % labels top-1", "semi", f"labels_{p}/top1", "max", "%") for p in (1, 10, 100))
    trials = [
        trial(i, {"method": method}, seed=0, values={each.title: start + 10.0 * k for k, each in enumerate(goals)})
        for i, (method, start) in enumerate((("leoclr", 60.0), ("moco_v2", 55.0)))
    ]
    return SweepResult("ablation-labels", "Few labels", (METHOD,), goals, (), tuple(trials), "grid")


def factorial() -> SweepResult:
    """Return a grid of three axes, without method, whose effects add up; one cell diverged."""
    trials = []
    for view, drop in (("augmented", 0.0), ("plain", 2.0)):
        for terms, less in (("sum", 0.0), ("mean", 0.5)):
            for queue, more in ((256, 0.0), (1024, 1.0)):
                point = {"original view": view, "terms": terms, "queue_size": queue}
                lost = drop > 0 and less > 0 and more > 0
                value = None if lost else 88.0 - drop - less + more
                trials.append(
                    trial(len(trials), point, seed=0, values=value, state="diverged" if lost else "done", reason="nan")
                )
    axes = (
        Axis("original view", ("augmented", "plain"), "category"),
        Axis("terms", ("sum", "mean"), "category"),
        Axis("queue_size", (256, 1024), "log"),
    )
    return SweepResult("factorial", "The original view", axes, (TOP1,), (), tuple(trials), "grid")


def data_sets() -> SweepResult:
    """Return two methods on two data sets."""
    reached = {("stl10", "leoclr"): 85.0, ("stl10", "moco_v2"): 80.0, ("cifar10", "leoclr"): 79.0}
    trials = [
        trial(2 * i + seed, {"dataset": d, "method": m}, seed=seed, values=v + 0.1 * seed)
        for i, ((d, m), v) in enumerate({**reached, ("cifar10", "moco_v2"): 73.0}.items())
        for seed in range(2)
    ]
    anchors = (Anchor({"dataset": "stl10", "method": "leoclr"}, TOP1.title, 85.2, "arXiv:2403.06813, table 5"),)
    axes = (Axis("dataset", ("stl10", "cifar10"), "category"), METHOD)
    return SweepResult("ablation-backbone", "ResNet-18", axes, (TOP1,), anchors, tuple(trials), "grid")


def search(n: int = 24, *, goals: int = 1) -> SweepResult:
    """Return a random search in which the temperature decides nearly all, the crop nothing; a few trials stopped."""
    draw = random.Random(5)
    trials = []
    for i in range(n):
        temperature, rate = math.exp(draw.uniform(math.log(0.05), 0.0)), draw.uniform(0.01, 0.1)
        point = {"temperature": temperature, "lr": rate, "crop": draw.choice(("small", "large"))}
        top1 = 88.0 - 9.0 * math.log10(temperature / 0.2) ** 2 - 5.0 * rate
        lost = i % 11 == 10
        known = {TOP1.title: top1, TIME.title: 100.0 + 400.0 * draw.random()}
        trials.append(
            trial(i, point, values=None if lost else known, state="stopped" if lost else "done", reason="asha")
        )
    axes = (Axis("temperature", None, "log"), Axis("lr", None, "linear"), Axis("crop", ("small", "large"), "category"))
    return SweepResult("search", "A search", axes, (TOP1, TIME)[:goals], (), tuple(trials), "random")
