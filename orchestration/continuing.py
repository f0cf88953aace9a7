"""Pre-trainings that go on from one another: the first ends before its schedule does, the next takes its whole state.

    pretrain-1: {kind: pretrain, params: {epochs: 8, until: 4, lr: 0.03}}
    pretrain:   {kind: pretrain, needs: [pretrain-1], params: {epochs: 8, lr: 0.01}}   # epochs 5 to 8

Both are steps of one schedule, so they agree in all that decides what the state is and which step comes next. The
second stands on the first like an evaluation on its pre-training: its fingerprint holds the whole lineage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestration.document import Place, show
from orchestration.errors import SpecError
from orchestration.fingerprint import differences
from orchestration.stages import StageSpec

PRETRAIN = "pretrain"
MOVES = frozenset(  # what may change on the way; `settings` too, and where they change shapes the state does not load
    ("until", "settings", "lr", "vector_lr_scale", "sgd_momentum", "nesterov", "weight_decay",
     "decay_vectors", "schedule", "rate_moves", "milestones", "final_lr", "precision", "knn_every", "knn", "accumulate")
)  # fmt: skip

Where = Callable[[tuple[str, ...]], Place]


def check(stages: Mapping[str, StageSpec], where: Where) -> None:
    """Refuse what cannot go on from what it needs. Raises: SpecError."""
    for stage in stages.values():
        if stage.kind == PRETRAIN:
            _check_end(stage, where)
            if before := before_it(stage, stages):
                _check_pair(before, stage, where)


def before_it(stage: StageSpec, stages: Mapping[str, StageSpec]) -> StageSpec | None:
    """Return the pre-training that a pre-training goes on from, None for one that starts."""
    found = [stages[name] for name in stage.needs if stages[name].kind == PRETRAIN]
    return found[0] if found and stage.kind == PRETRAIN else None


def until(stage: StageSpec) -> int | None:
    """Return the epoch after which a pre-training ends, None where that is the end of its schedule."""
    return stage.params_json.get("until")


def _check_end(stage: StageSpec, where: Where) -> None:
    end = until(stage)
    if end is not None and end >= (epochs := stage.params_json["epochs"]):
        fact = f"a schedule of {epochs} epochs does not go on after epoch {end}"
        raise SpecError(fact, place=str(where((stage.name, "params", "until"))), hint="leave `until` out, or lower it")


def _check_pair(before: StageSpec, stage: StageSpec, where: Where) -> None:
    needs = str(where((stage.name, "needs")))
    if len([name for name in stage.needs if name != before.name]) > 0:
        raise SpecError(f"a pre-training goes on from one other, {show(before.name)}", place=needs)
    begins = until(before)
    if begins is None:
        hint = f"`until: N` in the params of {show(before.name)} ends it after epoch N"
        raise SpecError(f"{show(before.name)} runs to its end: there is nothing to go on with", place=needs, hint=hint)
    if begins >= (until(stage) or stage.params_json["epochs"]):
        place = str(where((stage.name, "params", "until")))
        raise SpecError(f"{show(before.name)} ends after epoch {begins}, not before this one", place=place)
    fixed = [{k: v for k, v in each.params_json.items() if k not in MOVES} for each in (before, stage)]
    if changed := differences(*fixed):
        hint = f"it cannot change on the way from {show(before.name)}: only rates, decay and the method's settings can"
        raise SpecError(changed[0], place=str(where((stage.name, "params"))), hint=hint)
