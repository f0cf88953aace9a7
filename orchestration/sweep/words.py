"""The words of a sweep's tables and figures: names of axes, rounded numbers, why a trial has no number. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from orchestration.sweep.result import Objective, Trial

SHORT = 8  # characters of a run id that tell runs apart
DASH = "-"
PLUS_MINUS = "+-"  # Markdown has the sign itself
MAX_PLAIN = 1e6  # larger numbers are written with an exponent
_TITLES = {  # by the last part of a dotted path, where the name of the setting says too little
    "lr": "learning rate",
    "tau": "temperature",
    "momentum": "momentum of the slow encoder",
    "queue_size": "keys in the queue",
    "crop_scale": "crop scale",
    "percent": "labeled images (%)",
    "percents": "labeled images (%)",
    "knn_top1": "kNN top-1",
    "batch": "batch size",
    "epochs": "epochs of pre-training",
}
_METHODS = {  # as their papers write them; tables have titles of their own
    "barlow_twins": "Barlow Twins",
    "byol": "BYOL",
    "clsa": "CLSA",
    "dino": "DINO",
    "leoclr": "LeOCLR",
    "leoclr_end_to_end": "LeOCLR end to end",
    "moco_v2": "MoCo-v2",
    "random": "random weights",
    "simclr": "SimCLR",
    "simsiam": "SimSiam",
    "spcl": "SPCL",
    "supervised": "supervised",
    "swav": "SwAV",
    "vicreg": "VICReg",
}
_WORDS = {
    "done": "done",
    "stopped": "stopped early",
    "failed": "failed",
    "diverged": "diverged",
    "running": "still running",
    "waiting": "not started",
}


def axis_title(name: str) -> str:
    """Return what a reader calls an axis.

    >>> axis_title("pretrain.params.settings.queue_size"), axis_title("out_dim"), axis_title("original view")
    ('keys in the queue', 'out dim', 'original view')
    """
    last = name.rpartition(".")[2] or name
    return _TITLES.get(last, last.replace("_", " "))


def method_title(name: str) -> str:
    """Return what a reader calls a method; the name itself for one of somebody else's.

    >>> method_title("moco_v2"), method_title("mine")
    ('MoCo-v2', 'mine')
    """
    return _METHODS.get(name, name)


def with_unit(objective: Objective) -> str:
    """Return the title of an objective with its unit: `linear top-1 (%)`."""
    return f"{objective.title} ({objective.unit})" if objective.unit else objective.title


def points(unit: str) -> str:
    """Return the unit of a difference of two values: percentages differ by points."""
    return "% points" if unit == "%" else unit


def show(value: float, unit: str, *, sign: bool = False) -> str:
    """Return a number for the eye: percentages to a tenth (one image in a thousand), others to 4 digits.

    >>> show(81.25, "%"), show(0.123456, ""), show(1.0, "%", sign=True), show(2e30, "%")
    ('81.2', '0.1235', '+1.0', '2e+30')
    """
    plain = unit == "%" and abs(value) < MAX_PLAIN
    return f"{value:{'+' if sign else ''}{'.1f' if plain else '.4g'}}"


def show_published(value: float | None, unit: str) -> str:
    """Return a published value, or that there training diverged."""
    return _WORDS["diverged"] if value is None else show(value, unit)


def spread(value: float, width: float | None, unit: str, *, sign: bool = False) -> str:
    """Return a number and how far it spreads, if that is known.

    >>> spread(81.25, 0.5, "%"), spread(-3.0, None, "%", sign=True)
    ('81.2 +- 0.5', '-3.0')
    """
    said = show(value, unit, sign=sign)
    return said if width is None else f"{said} {PLUS_MINUS} {show(width, unit)}"


def show_value(value: object) -> str:
    """Return the value of an axis for the eye.

    >>> show_value(0.03000000001), show_value([0.2, 1.0]), show_value("sum"), show_value(None)
    ('0.03', '[0.2, 1]', 'sum', '-')
    """
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float | list | tuple):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"[{', '.join(map(show_value, value))}]"


def number(value: object) -> float | None:
    """Return what a value of an axis is on a scale, or None; a list of one is its number: `percents: [10]`.

    >>> number(3), number("0.07"), number("10 %"), number([1.0]), number("sum"), number(True), number("nan")
    (3.0, 0.07, 10.0, 1.0, None, None, None)
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        return number(value[0])
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def state(trials: Sequence[Trial]) -> str:
    """Return what stands in a cell without a number: how its trials ended, each way once."""
    return ", ".join(dict.fromkeys(_how(trial) for trial in trials if trial.state != "done")) or DASH


def _how(trial: Trial) -> str:
    """Return in words how a trial ended; one that was cut off waits to go on."""
    return "not finished" if trial.state == "waiting" and trial.run_id else _WORDS[trial.state]


def reasons(trials: Sequence[Trial], objective: Objective) -> str:
    """Return why trials have no number, those that share a reason together; "" where all have one."""
    by_reason: dict[str, list[Trial]] = {}
    for trial in trials:
        if said := _reason(trial, objective):
            by_reason.setdefault(said, []).append(trial)
    return "; ".join(f"{said} ({', '.join(map(_whose, group))})" for said, group in by_reason.items())


def _reason(trial: Trial, objective: Objective) -> str:
    if trial.state == "done":
        if objective.title not in trial.values:
            return f"{objective.metric} was not recorded"
        value = trial.values[objective.title]
        return "" if math.isfinite(value) else f"{objective.metric} is {value}"
    why = one_line(trial.reason)
    return _how(trial) + (f": {why}" if why and why != _how(trial) else "")


def _whose(trial: Trial) -> str:
    parts = [f"trial {trial.number}"]
    if trial.seed is not None:
        parts.append(f"seed {trial.seed}")
    if trial.run_id:
        parts.append(f"run {trial.run_id[:SHORT]}")
    return " ".join(parts)


def one_line(text: str) -> str:
    """Return text without line breaks, tabs and control characters, which would tear a table or an SVG file."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def slug(text: str) -> str:
    """Return a file name's part.

    >>> slug("linear top-1 (%)"), slug("../a/b"), slug("***")
    ('linear-top-1', 'a-b', 'x')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
