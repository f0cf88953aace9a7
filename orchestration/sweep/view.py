"""What to show of a sweep: its trials as lines of the display, and as the `SweepResult` that tables and plots take."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.document import Tree
from orchestration.progress import Snapshot, StageState, StageView
from orchestration.sweep import space as sweep_space
from orchestration.sweep.cells import METHOD
from orchestration.sweep.ledger import Entry, Ledger
from orchestration.sweep.result import Anchor, Axis, Objective, Scale, State, SweepResult, Trial
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.words import method_title

_WIDE = 20.0  # largest by smallest of an axis' numbers, from which on a logarithm shows them better
_SHOWN: Mapping[State, StageState] = {
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "diverged": "stopped",  # a result, and no mistake
    "running": "queued",
    "waiting": "waiting",
}


def snapshot(
    sweep: SweepSpec,
    ledger: Ledger,
    running: Mapping[int, StageView],
    *,
    total: int,
    run_id: str,
    started: float,
    note: str = "",
) -> Snapshot:
    """Return a line for each trial; those that were not made yet wait."""
    first = next(iter(sweep.goals))
    views = [
        running.get(number) or (_view(ledger.entries[number], first) if number in ledger.entries else _unmade(number))
        for number in range(max([total, *(n + 1 for n in ledger.entries)]))
    ]
    return Snapshot(sweep.name, run_id, started, tuple(views), note)


def result(sweep: SweepSpec, entries: Mapping[int, Entry], *, alive: bool = False) -> SweepResult:
    """Return what the sweep has found so far; `alive` says whether a process drives it."""
    short = sweep_space.short_names(sweep.space)
    names = {**short, "method": "method"}
    return SweepResult(
        name=sweep.name,
        title=sweep.title,
        axes=tuple(_axis(axis, short[axis.name]) for axis in sweep.space),
        objectives=tuple(
            Objective(title, goal.stage, goal.metric, goal.direction, goal.unit) for title, goal in sweep.goals.items()
        ),
        anchors=tuple(
            Anchor(
                _titled({names[axis]: label for axis, label in each.at.items()}),
                each.objective,
                each.value,
                each.source,
            )
            for each in sweep.anchors
        ),
        trials=tuple(_trial(sweep, entry, short, alive=alive) for _, entry in sorted(entries.items())),
        search=sweep.search.kind,
    )


def _axis(axis: sweep_space.Axis, name: str) -> Axis:
    if axis.kind in sweep_space.RANGES:
        return Axis(name, None, "log" if axis.kind == "loguniform" else "linear")
    numbers = [_value(axis, value) for value in axis.values]
    return Axis(name, tuple(numbers), _scale(numbers))


def _scale(values: list[object]) -> Scale:
    """Return how to draw an axis of listed values; one from zero to a thousand is best drawn value by value."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < max(2, len(values)):
        return "category"
    if max(map(abs, numbers)) < _WIDE * min(map(abs, numbers)):
        return "linear"
    return "log" if min(numbers) > 0 else "category"


def _value(axis: sweep_space.Axis, value: Tree) -> object:
    """Return a value of an axis; names that are all numbers, such as shares of the labels, are numbers."""
    if axis.sets is None or not all(_is_number(name) for name in axis.sets):
        return tuple(value) if isinstance(value, list) else value
    number = float(str(value))
    return int(number) if number.is_integer() else number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _trial(sweep: SweepSpec, entry: Entry, short: Mapping[str, str], *, alive: bool) -> Trial:
    axes = {axis.name: axis for axis in sweep.space}

    def shown(point: Mapping[str, Tree]) -> dict[str, object]:
        return {short[name]: _value(axes[name], value) for name, value in point.items()}

    state: State = "waiting" if entry.state == "running" and not alive else entry.state
    return Trial(
        number=entry.number,
        point=shown(entry.point),
        labels=_titled(entry.labels),
        seed=entry.seeds[0] if len(entry.seeds) == 1 and sweep.one_seed_a_trial else None,
        state=state,
        reason=entry.reason,
        run_id=entry.run_id,
        values=entry.values if entry.state == "done" else {},
        history=entry.history,
        seconds=entry.seconds,
        before=tuple(map(shown, entry.before)),
    )


def _titled(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels for a reader; points keep the names that files and tags have."""
    return {axis: method_title(label) if axis == METHOD else label for axis, label in labels.items()}


def _view(entry: Entry, objective: str) -> StageView:
    words = [label if axis == "method" else f"{axis}={label}" for axis, label in entry.labels.items()]
    value = entry.values.get(objective)
    return StageView(
        name=str(entry.number),
        kind="trial",
        arms=(" ".join(words),),
        state=_SHOWN[entry.state],
        run_id=entry.run_id,
        metric=None if value is None else (objective, value),
        seconds=entry.seconds,
        note=f"diverged: {entry.reason}" if entry.state == "diverged" else entry.reason,
    )


def _unmade(number: int) -> StageView:
    return StageView(name=str(number), kind="trial", arms=("",), state="waiting")
