"""Learning curves of a chapter: what its stages recorded as they ran, a line for arms that differ in seeds alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jobs
from orchestration.figure.learning import Curve, Points, curve, learning
from orchestration.figure.style import Picture
from orchestration.records import StageRun
from orchestration.report.collect import Chapter, Group
from orchestration.tracking import Store

LOSS = "loss"
MOST = 14  # lines of a panel; more cannot be told apart


def shown(chapter: Chapter) -> tuple[Group, ...]:
    """Return the groups that have a line, in the order of the legend."""
    return chapter.groups[:MOST]


def panels(chapter: Chapter, store: Store) -> Iterator[Picture]:
    """Yield a picture for each number that has a curve: the loss of every stage, and what it was watched by."""
    groups = shown(chapter)
    stages = dict.fromkeys(stage for group in groups for stage in group.runs)
    for stage in stages:
        runs = [run for group in groups for run in group.runs.get(stage, ())]
        losses = store.history((run.run_id for run in runs), LOSS)
        last = {run_id: points[-1][0] for run_id, points in losses.items()}
        known = {LOSS: ("loss", "")} | {m.name: (m.title, m.unit) for m in jobs.module(runs[0].kind).METRICS}
        for key, (title, unit) in known.items():
            found = losses if key == LOSS else _watched(store, runs, key, last)
            lines = [line for i, group in enumerate(groups) if (line := _line(group, i, stage, found))]
            if any(len(line.steps) > 1 for line in lines):
                words = title if stage in title else f"{stage.replace('_', ' ')}: {title}"
                yield learning(
                    lines,
                    name=f"{stage}-{key}".replace("/", "-"),
                    title=words,
                    y=f"{title} ({unit})" if unit else title,
                )


def _watched(store: Store, runs: list[StageRun], key: str, last: Mapping[str, int]) -> dict[str, Points]:
    """Return the curves of a number that was looked at now and then; what a stage ended with is its last point."""
    found: dict[str, Points] = {}
    for run_id, points in store.history((run.run_id for run in runs), key).items():
        run = next(run for run in runs if run.run_id == run_id)
        at = last.get(run_id, points[-1][0])
        end = [(at, run.metrics[key])] if run.status == "FINISHED" and at > points[-1][0] else []
        found[run_id] = [*points, *end]
    return found


def _line(group: Group, place: int, stage: str, found: Mapping[str, Points]) -> Curve | None:
    runs = group.runs.get(stage, ())
    return curve(group.title, place, [found[run.run_id] for run in runs if run.run_id in found])
