"""The part of the page that tells of each run: what it ended with, what it stands on, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from orchestration import records
from orchestration.progress import duration
from orchestration.records import StageRun
from orchestration.report.explain import Explained, Explainer, finals, seconds, trained
from orchestration.report.html import Html, facts, fold, heading, join, link, show, tag
from orchestration.report.sections import run_id
from orchestration.table.chain import inputs

SHORT = 8  # characters of a run id that tell runs apart
STATUS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped", "RUNNING": "running"}


def articles(runs: Iterable[StageRun], explainer: Explainer, level: int) -> Html:
    """Return an article for each run, and for all that they stand on."""
    every = explainer.chain.walk(run.run_id for run in runs if run.run_id in explainer.chain.runs)
    order = sorted(every, key=lambda run: (run.started_ms, run.run_id))
    return join(_article(explainer.explain(run.run_id, verified=False), explainer, level) for run in order)


def _article(each: Explained, explainer: Explainer, level: int) -> Html:
    run = each.run
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in finals(run).items())
    state = "" if run.status == "FINISHED" else tag("span", _state(run), class_="pill bad")
    title = join([show(each.title), tag("span", f"run {run.run_id[:SHORT]}", class_="pill"), state], " ")
    line = ", ".join(filter(None, [numbers, f"in {duration(seconds(run))}"]))
    reason = run.tags.get(records.REASON, "") if run.status != "FINISHED" else ""
    inside = join([_stands_on(each, explainer), _again(each), _params(run)])
    name = run_id(run.run_id)
    parts = [
        heading(level, title, f"{name}-title"),
        tag("p", line, class_="numbers"),
        tag("p", reason, class_="note bad") if reason else "",
        fold("what it stands on, and how to make it again", tag("div", inside, class_="inside")),
    ]
    return tag("article", join(parts), id=name, class_="card", aria_labelledby=f"{name}-title")


def _state(run: StageRun) -> str:
    return "diverged" if run.diverged else STATUS[run.status]


def _stands_on(each: Explained, explainer: Explainer) -> Html:
    pairs: list[tuple[str, str]] = [("run", each.run.run_id)]
    needed = explainer.chain.needs(each.run)
    for name, value in each.facts.items():
        pretrain = next(iter(needed.values()), None)
        if name == "pre-training" and pretrain:
            pairs.append(
                (name, join([link(run_id(pretrain.run_id), f"run {pretrain.run_id[:SHORT]}"), trained(pretrain)], ": "))
            )
        else:
            pairs.append((name, value))
    gone = [name for name in inputs(each.run) if name not in needed]
    if gone:
        pairs.append(("missing", f"what it stands on is not in the store: {', '.join(gone)}"))
    if each.page:
        pairs.append(("in MLflow", tag("a", each.page, href=each.page, rel="noopener noreferrer")))
    return facts(pairs)


def _again(each: Explained) -> Html:
    commands = tag("pre", tag("code", "\n".join(each.recipe.lines)), tabindex="0", aria_label="commands")
    parts = [tag("p", "To make it again:", class_="note"), commands]
    if each.recipe.file:
        parts.append(fold("the pipeline that it reads", tag("pre", tag("code", each.recipe.file))))
    return join(parts)


def _params(run: StageRun) -> Html:
    text = json.dumps(dict(run.params), indent=1, sort_keys=True)
    return fold("all params", tag("pre", tag("code", text)))
