"""What a plan will take on given nodes, in words: what runs at the same time, until when, and the GPU-hours. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from jobs import grid
from orchestration import effort, schedule
from orchestration.effort import Effort
from orchestration.nodes import in_words
from orchestration.plan import Plan, State
from orchestration.progress import duration
from orchestration.schedule import Ask, Size
from orchestration.spec import StageSpec
from orchestration.timeline import Slot, Task, Timeline, simulate

WAVES = 12  # lines on what starts when; a long plan says how many more there are


def tasks(plan: Plan, nodes: Sequence[Size], *, speed: float | None = None) -> list[Task]:
    """Return what a plan has to do; `speed` in passes a second and GPU estimates what no earlier run does."""
    known = {stage.fingerprint: stage for stage in plan.stages}
    return [
        task(
            stage.fingerprint,
            stage.spec,
            {name: known[own].spec for name, own in stage.inputs.items()},
            needs=stage.inputs.values(),
            has_gpus=any(node.gpus for node in nodes),
            time=stage.estimate_s if stage.estimate_s is not None else speed and Speed(speed),
        )
        for stage in plan.stages
        if stage.state is State.TODO
    ]


class Speed(float):
    """Passes a second and GPU, see `effort`."""


def task(
    name: str,
    stage: StageSpec,
    stages: Mapping[str, StageSpec],
    *,
    needs: Iterable[str],
    has_gpus: bool,
    time: float | Speed | None,
) -> Task:
    """Return a stage as a task; `time` is what it takes in seconds, or the speed that tells."""
    trials = len(grid.points_of(stage.kind, stage.params_json))
    ask = schedule.ask(stage.resources, stage.params, has_gpus=has_gpus, trials=trials)
    seconds, serial = (time, 0.0) if not isinstance(time, Speed) else _at(time, effort.of(stage, stages), ask, stage)
    return Task(name, stage.name, replace(ask, seconds=seconds), tuple(needs), serial or 0.0)


def _at(speed: Speed, work: Effort | None, ask: Ask, stage: StageSpec) -> tuple[float | None, float]:
    """Return the seconds of a stage with all that it asks for, and those of them that one training takes."""
    gpus = ask.worker.gpus * (stage.resources.fewest if work and work.trials else ask.counts[0] if ask.counts else 0)
    if work is None or not gpus:
        return None, 0.0
    own = work.passes / (speed * gpus)
    return (own + work.trial_passes / (speed * gpus), own) if work.trials else (own, 0.0)


def in_text(todo: Sequence[Task], nodes: Sequence[Size]) -> str:
    """Return what runs when on `nodes`, and what it takes."""
    unknown = sorted({task.title for task in todo if task.ask.seconds is None})
    if unknown:  # without all times there is no clock, but the order is known
        todo = [replace(task, ask=replace(task.ask, seconds=None), serial_s=0.0) for task in todo]
    made = simulate(todo, nodes)
    lines = [f"on {in_words(nodes)}:", *_waves(made, timed=not unknown)]
    if made.never:
        titles = sorted({task.title for task in made.never})
        lines.append(f"  never, these nodes cannot hold it or what it needs: {', '.join(titles)}")
    if unknown:
        return "\n".join([*lines, f"  time unknown: no earlier run tells how long {', '.join(unknown)} takes"])
    return "\n".join([*lines, f"  {summary(made)}"]) if made.slots else "\n".join(lines)


def summary(made: Timeline) -> str:
    """Return the makespan, the hours and the share that is used, in words."""
    hours, what = (made.hours.gpus, "GPU") if made.hours.gpus else (made.hours.cpus, "CPU")
    used = "" if math.isnan(made.utilization) else f", {made.utilization:.0%} of them used"
    return f"done after about {duration(made.makespan_s)}, {hours:,.1f} {what}-hours{used}"


def _waves(made: Timeline, *, timed: bool) -> list[str]:
    """Return a line for each moment at which something starts."""
    slots = sorted(made.slots, key=lambda slot: slot.start_s)
    waves = [(start, list(group)) for start, group in groupby(slots, key=lambda slot: slot.start_s)]
    lines = []
    for place, (start, group) in enumerate(waves[:WAVES]):
        head = duration(start) if timed else "first" if not place else "then"
        lines.append(f"  {head:>9}  {', '.join(_together(group))}")
    more = sum(len(group) for _, group in waves[WAVES:])
    return [*lines, *([f"  {'':9}  and {more} more stages after that"] if more else [])]


def _together(slots: Sequence[Slot]) -> list[str]:
    """Return the stages of one start, those alike counted."""
    counts: dict[tuple[str, str], int] = {}
    for slot in slots:
        kind = slot.task.title, _share(slot)
        counts[kind] = counts.get(kind, 0) + 1
    return [f"{count} {title} ({share}{' each' if count > 1 else ''})" for (title, share), count in counts.items()]


def _share(slot: Slot) -> str:
    size, what = (slot.size.gpus, "GPU") if slot.size.gpus else (slot.size.cpus, "CPU")
    return f"{size:g} {what}{'' if size == 1 else 's'}"
