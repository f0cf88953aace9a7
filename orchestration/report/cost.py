"""What a chapter cost: hours by stage and arm. A run that several arms share is counted once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.report.collect import Chapter
from orchestration.report.explain import seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of all attempts."""

    stages: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, float]], ...]  # title of a group, seconds by stage
    total: float
    runs: int
    reused: int  # of the runs: they ran for another submission


def cost(chapter: Chapter) -> Cost:
    """Return what the runs of a chapter took."""
    stages = tuple(dict.fromkeys(stage for group in chapter.groups for stage in group.runs))
    counted: set[str] = set()
    rows: list[tuple[str, Mapping[str, float]]] = []
    for group in chapter.groups:
        took: dict[str, float] = {}
        for stage, runs in group.runs.items():
            mine = [run for run in runs if run.run_id not in counted]
            counted |= {run.run_id for run in mine}
            took[stage] = sum(map(seconds, mine))
        rows.append((group.title, took))
    every = chapter.every().values()
    reused = sum(run.parent != chapter.run_id for run in every) if chapter.sweep is None else 0
    return Cost(stages, tuple(rows), sum(map(seconds, every)), len(every), reused)
