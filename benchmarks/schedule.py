"""Tables 1 to 6 with several seeds on clusters of several sizes, on paper: makespan, utilization and cost.

    python -m benchmarks.schedule [--gpus 8 64 512] [--seeds 5] [--speed 671] [--dollars 2.00]

The stages are those of the shipped pipelines that fill the tables, each once a seed, however many tables ask for it.
They are placed by the rule that the runner itself starts stages by (`orchestration.schedule`). How long each takes is
its work (`orchestration.effort`) at `--speed`, in passes of a ResNet-50 a second and GPU. The default is one V100 by
the hours that facebookresearch/moco reports: we have measured none. A stage whose work nobody can tell is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter

from orchestration import effort, forecast, spec
from orchestration.fingerprint import digest_of
from orchestration.forecast import Speed
from orchestration.schedule import Size
from orchestration.spec import PipelineSpec
from orchestration.table import read
from orchestration.timeline import Task, Timeline, simulate

TABLES = tuple(f"table-{number}" for number in range(1, 7))
NODE = Size(cpus=64.0, gpus=8.0)  # what the shipped pipelines are written for: 8 CPUs a GPU
HOUR = 3600.0


def pipelines() -> list[PipelineSpec]:
    """Return the pipelines that fill tables 1 to 6, each once."""
    names = dict.fromkeys(name for table in TABLES for name in read.load(table).sources)
    return [spec.load(name) for name in names]


def tasks(loaded: Sequence[PipelineSpec], *, seeds: int, speed: float) -> list[Task]:
    """Return every stage of all pipelines once a seed: all of one seed before those of the next."""
    found: dict[str, Task] = {}
    for seed in range(seeds):
        for pipeline in loaded:
            found |= {task.name: task for task in _of(pipeline, seed, speed) if task.name not in found}
    return list(found.values())


def _of(pipeline: PipelineSpec, seed: int, speed: float) -> Iterator[Task]:
    for arm in pipeline.arms:
        marks: dict[str, str] = {}
        for name in TopologicalSorter({name: stage.needs for name, stage in arm.stages.items()}).static_order():
            stage = arm.stages[name]
            params = {**stage.params_json, "seed": seed}
            marks[name] = digest_of([stage.kind, params, sorted(marks[need] for need in stage.needs)])
            needs = [marks[need] for need in stage.needs]
            yield forecast.task(marks[name], stage, arm.stages, needs=needs, has_gpus=True, time=Speed(speed))


def bound_s(todo: Sequence[Task], gpus: float) -> float:
    """Return what no schedule can beat: all work on all GPUs, or the longest chain of stages."""
    ends: dict[str, float] = {}
    for task in todo:  # inputs come first
        ends[task.name] = max((ends[need] for need in task.needs), default=0.0) + task.takes_s(task.ask.counts[0])
    work = sum(_gpu_seconds(task) for task in todo)
    return max(max(ends.values()), work / gpus)


def _gpu_seconds(task: Task) -> float:
    fewest = task.ask.counts[-1]
    return task.takes_s(fewest) * task.ask.needs(fewest).gpus


def row(made: Timeline, bound: float, *, dollars: float) -> str:
    """Return the line of one cluster in the table."""
    gpus, days = sum(node.gpus for node in made.nodes), made.makespan_s / HOUR / 24
    cells = [f"{gpus:.0f}", f"{days:,.1f}", f"{bound / HOUR / 24:,.1f}", f"{made.utilization:.0%}"]
    held, whole = made.hours.gpus, gpus * days * 24
    return f"| {' | '.join([*cells, f'{held:,.0f}', f'{held * dollars:,.0f}', f'{whole * dollars:,.0f}'])} |"


def report(asked: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the Markdown table, and what it stands on."""
    everything = tasks(pipelines(), seeds=asked.seeds, speed=asked.speed)
    unknown = {task.name for task in everything if task.ask.seconds is None}
    todo = [task for task in everything if task.name not in unknown]
    yield f"{len(todo)} stages, {asked.seeds} seeds, {asked.speed:.0f} passes/s a GPU, ${asked.dollars:.2f} a GPU-hour"
    if unknown:
        titles = sorted({task.title for task in everything if task.name in unknown})
        yield f"left out, their work is not known: {len(unknown)} of {', '.join(titles)}"
    yield ""
    yield "| GPUs | days | at best | used | GPU-hours | $ for these | $ for all GPUs |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for gpus in asked.gpus:
        made = simulate(todo, [NODE] * (gpus // int(NODE.gpus)))
        assert not made.never
        yield row(made, bound_s(todo, gpus), dollars=asked.dollars)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--speed", type=float, default=effort.V100)
    parser.add_argument("--dollars", type=float, default=2.0)
    for line in report(parser.parse_args(words)):
        print(line)


if __name__ == "__main__":
    main()
