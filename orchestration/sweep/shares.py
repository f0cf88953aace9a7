"""Accuracy at several shares of the labels is one objective along an axis, as in figure 5 of arXiv:2403.06813. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from orchestration.sweep.cells import GRID
from orchestration.sweep.result import Anchor, Axis, Objective, SweepResult, Trial

PERCENT = "percent"
MIN_SHARES = 3  # that make a curve
_SHARE = re.compile(r"labels_([0-9.]+)/(.+)")  # a semi-supervised stage's numbers: labels_10/top1


def by_share(result: SweepResult) -> SweepResult:
    """Return a grid whose objectives are one number at several shares of the labels with the shares as an axis instead.

    A trial becomes one for each share, of the same number and run. Any other sweep is returned as it is.
    """
    found = [_SHARE.fullmatch(each.metric) for each in result.objectives]
    same = {(each.stage, m.group(2)) for each, m in zip(result.objectives, found, strict=True) if m}
    if result.search != GRID or len(found) < MIN_SHARES or len(same) != 1 or not all(found):
        return result
    shares = {each.title: float(m.group(1)) for each, m in zip(result.objectives, found, strict=True) if m}
    first = result.objectives[0]
    one = replace(first, title=first.title.rpartition("labels ")[2] or first.metric)
    trials = [_at_share(trial, title, share, one) for trial in result.trials for title, share in shares.items()]
    anchors = [
        Anchor({**anchor.labels, PERCENT: f"{shares[anchor.objective]:g}"}, one.title, anchor.value, anchor.source)
        for anchor in result.anchors
        if anchor.objective in shares
    ]
    axis = Axis(PERCENT, tuple(sorted(shares.values())), "log")
    return replace(
        result,
        axes=(axis, *result.axes),
        objectives=(one,),
        anchors=tuple(anchors),
        trials=tuple(trials),
    )


def _at_share(trial: Trial, title: str, share: float, objective: Objective) -> Trial:
    values = {objective.title: trial.values[title]} if title in trial.values else {}
    point, labels = {**trial.point, PERCENT: share}, {**trial.labels, PERCENT: f"{share:g}"}
    return replace(trial, point=point, labels=labels, values=values)
