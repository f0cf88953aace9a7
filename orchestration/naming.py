"""What MLflow's pages call and say of runs, params, numbers, data sets and models. Pure; docs/tracking.md lists it all.

A param of an evaluation has the name that it has in the pipeline's file; one of the pre-training that a run stands on
follows `pretrain.`, on the pre-training's own run too. So one column, one axis of a plot, means one thing on all runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestration import records
from orchestration.errors import StoreError
from orchestration.plan import Plan, PlannedStage

PRETRAIN = "pretrain"  # kind of the stage whose checkpoint all others stand on
EVERYWHERE = ("dataset", "seed")  # params of a pre-training that its run also has as an evaluation has them
AXIS = "axis."  # + axis: its value, a param of a trial
NOTE = "mlflow.note.content"  # the description of a run, Markdown
CONTEXT = "mlflow.data.context"  # of a data set in a run: "training" or "evaluation"
SOURCE_TYPE = "leoclr-ops"  # of a data set: where its files lie is no part of what it is
MODEL_TYPE = "backbone"
POINTER = "checkpoint.json"  # artifact of a model: where its weights are
MACHINE_LEARNING = "workflowType=machine_learning"  # in an address: the pages show runs and models, not prompts
VIEW = "leoclr-ops"  # name of the view of the runs that `ui` opens, in which columns are chosen
VIEW_COLUMNS = (
    "attributes.`Dataset`",
    "metrics.`pretrain/knn_top1`",
    "metrics.`linear/top1`",
    "metrics.`transfer/top1`",
    "metrics.`detection/ap50`",
    "params.`pretrain.method`",
    "params.`pretrain.epochs`",
    "params.`protocol`",
    "params.`seed`",
)
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{VIEW}": json.dumps(
        {"orderByKey": "attributes.start_time", "orderByAsc": False, "selectedColumns": VIEW_COLUMNS}
    ),
}
MAX_PARAM, SHOWN = 6000, 12  # characters: MLflow cuts longer params; of a data digest in lists, MLflow keeps 36
_REFUSED = re.compile(r"[/:.%\"']")  # in the name of a model: mlflow/utils/validation.py


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage's run is shown with, beside what is planned of it."""

    origin: PlannedStage | None = None  # the pre-training that it stands on
    origin_run: str | None = None
    axes: Mapping[str, str] = field(default_factory=dict)  # of the trial that it was begun for: value by axis


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return params as MLflow stores them: text by dotted name; lists as JSON.

    >>> flatten({"epochs": 8, "settings": {"temperature": 0.1}})
    {'epochs': '8', 'settings.temperature': '0.1'}

    Raises:
        StoreError: a value is longer than MLflow keeps.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
            continue
        flat[name] = value if isinstance(value, str) else json.dumps(value)
        if len(flat[name]) > MAX_PARAM:
            fact = f"{len(flat[name])} characters are more than the {MAX_PARAM} that MLflow keeps"
            raise StoreError(fact, place=f"params.{name}")
    return flat


def stage_params(planned: PlannedStage, origin: PlannedStage | None) -> dict[str, str]:
    """Return the params of a stage's run. Raises: StoreError when a value is too long."""
    own = planned.spec.params_json
    if planned.kind == PRETRAIN:
        return flatten({key: own[key] for key in EVERYWHERE if key in own}) | flatten(own, f"{PRETRAIN}.")
    return flatten(own) | (flatten(origin.spec.params_json, f"{PRETRAIN}.") if origin else {})


def shared_params(plan: Plan, axes: Mapping[str, str]) -> dict[str, str]:
    """Return the params of a submission's run: by `STAGE.path` what all its arms agree in, by `axis.NAME` its trial."""
    by_stage: dict[str, list[dict[str, str]]] = {}
    for planned in plan.stages:
        by_stage.setdefault(planned.name, []).append(flatten(planned.spec.params_json, f"{planned.name}."))
    shared = {
        key: value
        for first, *others in by_stage.values()
        for key, value in first.items()
        if all(other.get(key) == value for other in others)
    }
    return shared | {AXIS + axis: value for axis, value in axes.items()}


def run_name(planned: PlannedStage, axes: Mapping[str, str]) -> str:
    """Return what a stage's run is called: the stage, the axes of its trial, the first arm that asks for it."""
    arm = planned.arms[0] if planned.arms else ""
    return " ".join(filter(None, [planned.name, *labels(axes), arm]))[: records.MAX_NAME]


def labels(axes: Mapping[str, str]) -> list[str]:
    """Return values by axis as words.

    >>> labels({"method": "leoclr", "temperature": "0.1"})
    ['leoclr', 'temperature=0.1']
    """
    return [value if axis == "method" else f"{axis}={value}" for axis, value in axes.items()]


def model_name(run: str) -> str:
    """Return what the checkpoint of a pre-training's run is called; MLflow refuses some characters.

    >>> model_name("pretrain leoclr temperature=0.1")
    'pretrain leoclr temperature=0_1'
    """
    return _REFUSED.sub("_", run) or PRETRAIN


def stage_note(planned: PlannedStage, run_id: str, context: Context) -> str:
    """Return the description of a stage's run: what it is in one line, and how to get it again."""
    own, origin = planned.spec.params_json, context.origin
    if planned.kind == PRETRAIN:
        facts = [f"{key.replace('_', ' ')} {own[key]}" for key in ("epochs", "batch", "backbone", "seed") if key in own]
        what = f"Pre-training by **{own.get('method', '?')}** on {_data(own)}: {', '.join(facts) or 'imported'}."
    else:
        of = f" of the checkpoint of **{origin.spec.params_json.get('method', '?')}**" if origin else ""
        at = f", run `{context.origin_run[:8]}`" if context.origin_run else ""
        protocol = f" by protocol `{own['protocol']}`" if "protocol" in own else ""
        what = f"Evaluation `{planned.kind}`{protocol} on {_data(own)}{of}{at}."
    return f"{what}\n\nWhere it comes from, and the command that makes it again: `leoclr-ops explain {run_id[:8]}`"


def fitting(markdown: str, more: str) -> str:
    """Return a description that MLflow keeps whole: of one that is too long, the first lines, and where there is more.

    >>> fitting("a\\nb", "see there")
    'a\\nb'
    """
    if len(markdown) <= records.MAX_TAG:
        return markdown
    room = records.MAX_TAG - len(more) - 2
    return f"{markdown[:room].rpartition(chr(10))[0]}\n\n{more}"


def axes_of(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the values by axis that tags with `prefix` say."""
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}


def means(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number that all of `values` have.

    >>> means([{"top1": 90.0, "top5": 99.0}, {"top1": 92.0}])
    {'top1': 91.0}
    """
    found = list(values)
    names = [name for name in found[0] if all(name in each for each in found)] if found else []
    return {name: sum(each[name] for each in found) / len(found) for name in names}


def _data(params: Mapping[str, Any]) -> str:
    return str(params.get("dataset") or "unknown images")
