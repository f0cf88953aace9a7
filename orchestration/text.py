"""Plans and states as aligned text that stays readable at 100 columns, with or without color. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from jobs.contract import Resources
from orchestration.data_sets import Report
from orchestration.doctor import Finding
from orchestration.look import RECENT, StageLook, SubmissionLook
from orchestration.plan import Plan, PlannedStage, State
from orchestration.progress import duration

WIDTH = 100
COLORS = {
    "done": 32, "reused": 32, "ok": 32, "running": 36, "to do": 36, "warn": 33, "stopped": 33, "failed": 31, "fail": 31,
    "diverged": 33,
}  # fmt: skip


def of_plan(plan: Plan, title: str, *, color: bool = False) -> str:
    """Return a line for each stage of `plan`, stages of one name together, and the totals."""
    names = list(dict.fromkeys(stage.name for stage in plan.stages))
    stages = sorted(plan.stages, key=lambda stage: names.index(stage.name))
    shared = len({resources(stage.spec.resources) for stage in stages}) == 1
    rows: list[tuple[str, ...]] = [("", "stage", "arm", "fingerprint", "" if shared else "resources", "time", "why")]
    rows += [_planned(stage, shared) for stage in stages]
    ends = f", each on {resources(stages[0].spec.resources)}" if shared else ""
    return "\n".join([f"{plan.pipeline}: {title}", "", *_table(rows, color), "", _totals(plan) + ends])


def resources(asked: Resources) -> str:
    """Return the resources of a stage in words.

    >>> resources(Resources(workers=2, cpus_per_worker=4, gpus_per_worker=1))
    '2 workers x 4 CPUs + 1 GPU'
    >>> resources(Resources.model_validate({"workers": {"min": 2, "max": 8}, "placement": "spread"}))
    '2 to 8 workers x 1 CPU, spread'
    """
    parts = [_count(asked.cpus_per_worker, "CPU")]
    if asked.gpus_per_worker:
        parts.append(_count(asked.gpus_per_worker, "GPU"))
    workers = f"{asked.fewest} to {_count(asked.most, 'worker')}" if asked.fewest < asked.most else ""
    where = "" if asked.placement == "pack" else f", {asked.placement.replace('_', ' ')}"
    return f"{workers or _count(asked.most, 'worker')} x {' + '.join(parts)}{where}"


def of_status(looks: Sequence[SubmissionLook], *, color: bool = False, full: bool = False) -> str:
    """Return a line for each submission, and below it its stages: all if `full`, else those running or failed."""
    if not looks:
        return "nothing was submitted yet"
    rows: list[tuple[str, ...]] = [("", "run", "pipeline", "stages", "time", "began")]
    rows += [_submission(look) for look in looks]
    lines = _table(rows, color)
    text = [lines[0]]
    for look, line in zip(looks, lines[1:], strict=False):
        shown = [stage for stage in look.stages if full or stage.state == "running" or stage.reason]
        text += [line, *("    " + below for below in _table([_stage(stage) for stage in shown], color))]
    if len(looks) >= RECENT:
        text.append(f"the newest {RECENT} and what runs; `leoclr-ops status RUN` shows any other")
    return "\n".join(text)


def of_findings(findings: Iterable[Finding], *, color: bool = False) -> str:
    """Return a line for each finding of the doctor, and below it what to do."""
    lines: list[str] = []
    for finding in findings:
        lines += _table([(finding.level, f"{finding.name}:", finding.fact)], color, widths=(4, 14))
        lines += [f"{'':22}-> {finding.todo}"] if finding.todo else []
    return "\n".join(lines)


def _planned(stage: PlannedStage, shared: bool) -> tuple[str, ...]:
    time = "" if stage.estimate_s is None or stage.state is not State.TODO else duration(stage.estimate_s)
    asked = "" if shared else resources(stage.spec.resources)
    return stage.state.value, stage.name, _arms(stage.arms), stage.fingerprint[:12], asked, time, stage.why


def _arms(arms: Sequence[str]) -> str:
    return (arms[0] if arms else "") + (f" +{len(arms) - 1} more" if len(arms) > 1 else "")


def _totals(plan: Plan) -> str:
    count = Counter(stage.state for stage in plan.stages)
    states = ", ".join(f"{count[state]} {state.value}" for state in State if count[state])
    total = f"{_count(len(plan.stages), 'stage')}: {states}"
    if not count[State.TODO]:
        return total
    if plan.total_estimate_s is None:
        return f"{total}, time unknown (no earlier run tells)"
    return f"{total}, about {duration(plan.total_estimate_s)} one after the other"


def _submission(look: SubmissionLook) -> tuple[str, ...]:
    count = Counter(stage.state for stage in look.stages)
    began = datetime.fromtimestamp(look.started_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    states = ", ".join(f"{number} {state}" for state, number in sorted(count.items()))
    return look.state, look.run_id[:8], look.pipeline, states, duration(look.seconds), began


def _stage(stage: StageLook) -> tuple[str, ...]:
    percent = f"{stage.fraction:.0%}" if stage.state not in ("done", "reused") else ""
    epoch = f"epoch {stage.epoch}/{stage.epochs}" if percent and stage.epochs else ""
    return stage.state, stage.run_id[:8], stage.name, stage.arm, percent, epoch, duration(stage.seconds), stage.reason


def of_report(report: Report, *, color: bool = False) -> str:
    """Return what is in a data set, and a line for each finding of its check."""
    counts = ", ".join(f"{split} {count:,}" for split, count in report.counts.items())
    lines = [f"{report.name} in {report.root}" + (f": {report.classes} classes, {counts}" if counts else "")]
    for finding in report.findings:
        lines += _table([(finding.level, finding.text)], color, widths=(4,))
        lines += [f"      -> {finding.hint}"] if finding.hint else []
    return "\n".join(lines)


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" + ("" if number == 1 else "s")


def _table(rows: Sequence[tuple[str, ...]], color: bool, widths: Sequence[int] = ()) -> list[str]:
    """Align the columns, leave out empty ones, wrap the last under itself; the first is a state, and has its color."""
    if not rows:
        return []
    natural = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    sizes = [*widths, *natural[len(widths) :]]
    lines: list[str] = []
    for row in rows:
        cells = [f"{cell:{size}}" for cell, size in zip(row[:-1], sizes, strict=False) if size]
        start = "  ".join([*cells, ""])
        room = max(24, WIDTH - len(start))
        text = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) or [""]
        first = (start + text[0]).rstrip()
        if color and row[0] in COLORS:
            first = f"\x1b[{COLORS[row[0]]}m{row[0]}\x1b[0m{first[len(row[0]) :]}"
        lines += [first, *(" " * len(start) + more for more in text[1:])]
    return lines
